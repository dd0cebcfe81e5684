"""Feature extractors: any Hugging Face backbone by name or folder, and a small ResNet to train from scratch."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, ResNetConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

from edge.errors import UserError


def small_resnet_config(channels: int = 3) -> ResNetConfig:
    """A ResNet of one basic block per stage (0.3 M parameters; the sizes are a choice), trained on a CPU in minutes."""
    return ResNetConfig(
        num_channels=channels, embedding_size=32, hidden_sizes=[32, 64, 128], depths=[1, 1, 1], layer_type="basic"
    )


def build(config, layers: list[int]) -> nn.Module:
    """The untrained backbone of a Hugging Face config; it returns the feature maps of `layers` (stages, or ViT blocks).

    UserError for an architecture without a backbone class, or layers that it doesn't have.
    """
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise UserError(f"teacher.backbone: {config.model_type} has no backbone class; use e.g. a ResNet or DINOv2")
    config.out_features = None
    try:
        config.out_indices = list(layers)
        return MODEL_FOR_BACKBONE_MAPPING[type(config)](config).eval()
    except (ValueError, IndexError):
        raise UserError(
            f"teacher.layers = {layers}: give rising numbers of {config.stage_names}, counted from 0"
        ) from None


def pretrained(name: str, layers: list[int]) -> nn.Module:
    """A backbone with its published weights, from a hub name or a local folder in hub layout; UserError if there is
    none."""
    local = Path(name).is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise UserError(f"teacher.backbone = {name}: no such folder; give a folder, a Hugging Face name or simclr")
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        cls = type(build(config, layers))
        return cls.from_pretrained(name, config=config, local_files_only=local).eval()
    except UserError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"teacher.backbone = {name}: can't be loaded ({reason}); check the name or folder") from None


def local_contrast(images: torch.Tensor, window: int = 17) -> torch.Tensor:
    """Local contrast normalization (Jarrett et al., ICCV 2009) of images [N, C, H, W]: minus the local mean, divided by
    the local standard deviation.

    A small backbone has too little data to learn to ignore light and exposure; so they don't reach it. The window of
    17 pixels and the 0.03 that keeps noise in even areas small are choices.
    """

    def mean(x):
        return F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)

    centred = images - mean(images)
    return centred / (mean(centred.square()).sqrt() + 0.03)


def imagenet(images: torch.Tensor) -> torch.Tensor:
    """The mean and deviation that networks pretrained on ImageNet expect; of grey frames they see the last as RGB."""
    if images.shape[1] != 3:
        images = images[:, -1:].expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images - mean) / std


NORMALISATIONS = {"imagenet": imagenet, "local_contrast": local_contrast}


class FeatureExtractor(nn.Module):
    """Backbone with its input normalisation: samples [N, C, S, S] in 0..1 to feature maps [N, D, h, w], one per layer
    and scale.

    scales: the sizes, relative to S, at which the backbone sees a sample; a larger one shows finer detail. The maps of
    the first scale come first, the finest layer in front.
    """

    def __init__(self, backbone: nn.Module, normalisation: str, scales: Sequence[float] = (1.0,)):
        super().__init__()
        self.backbone, self.normalisation, self.scales = backbone, normalisation, list(scales)

    def at_scale(self, images: torch.Tensor, scale: float) -> list[torch.Tensor]:
        """The feature maps of one scale, finest first."""
        if scale != 1:
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
        return list(self.backbone(NORMALISATIONS[self.normalisation](images)).feature_maps)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [features for scale in self.scales for features in self.at_scale(images, scale)]

    def save(self, folder: Path) -> None:
        """Writes config and weights, so that later stages need neither the hub nor the folder it came from."""
        config = self.backbone.config.to_dict()
        for volatile in ("_name_or_path", "transformers_version", "architectures"):
            config.pop(volatile, None)
        config |= {"out_features": None, "out_indices": list(self.backbone.config.out_indices)}
        saved = {"config": config, "normalisation": self.normalisation, "scales": self.scales}
        (folder / "backbone.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
        save_file({k: v.contiguous() for k, v in self.backbone.state_dict().items()}, folder / "backbone.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "FeatureExtractor":
        saved = json.loads((folder / "backbone.json").read_text())
        config = saved["config"]
        layers = config.pop("out_indices")
        backbone = build(AutoConfig.for_model(config.pop("model_type"), **config), layers)
        backbone.load_state_dict(load_file(folder / "backbone.safetensors"))
        return cls(backbone, saved["normalisation"], saved["scales"]).eval()
