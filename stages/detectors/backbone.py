"""Feature extractors: any Hugging Face backbone or ViT by name or folder, and a small ResNet to train from scratch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, ResNetConfig, logging
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING
from transformers.utils import cached_file

from edge.errors import UserError
from stages.common.textfile import short
from stages.detectors import token_backbone, trunks
from stages.detectors.hub import WEIGHTS, explained, file, located
from stages.detectors.token_backbone import TokenBackbone
from stages.detectors.trunk_backbone import TrunkBackbone, TrunkConfig

logging.set_verbosity_error()  # what it says of weights that are missing is said here in one line


def small_resnet_config(channels: int = 3) -> ResNetConfig:
    """A ResNet of one basic block per stage (0.3 M parameters; the sizes are a choice), trained on a CPU in minutes."""
    return ResNetConfig(
        num_channels=channels, embedding_size=32, hidden_sizes=[32, 64, 128], depths=[1, 1, 1], layer_type="basic"
    )


def build(config, layers: list[int]) -> nn.Module:
    """The untrained backbone of a Hugging Face config; it returns the feature maps of `layers` (stages, or ViT blocks).

    UserError for an architecture without a backbone class, or layers that it doesn't have.
    """
    if type(config) in token_backbone.MODELS:
        return TokenBackbone.build(config, layers)
    if isinstance(config, TrunkConfig):
        return TrunkBackbone.build(config, layers)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise UserError(
            f"teacher.backbone: {config.model_type} has no backbone class; use e.g. a ResNet, ViT or DINOv2"
        )
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
    key = "teacher.backbone"
    place, options = located(key, name, "simclr")
    with explained(key, name):
        if is_trunk(place, options):
            return TrunkBackbone.pretrained(*trunks.load(name, key, "simclr"), layers)
        config = AutoConfig.from_pretrained(place, **options)
        if "/" in str(getattr(config, "_attn_implementation", "")):
            raise UserError(f"{key} = {short(name)}: asks for a kernel from the hub, whose code is never run")
        built = build(config, layers)
        tokens = isinstance(built, TokenBackbone)
        extra = token_backbone.POOLER.get(type(config), {}) if tokens else {}
        cls = type(built.model if tokens else built)
        loaded, found = cls.from_pretrained(place, config=config, **extra, **options, **WEIGHTS)
        backbone = TokenBackbone(loaded, layers) if tokens else loaded
    if found["missing_keys"]:  # transformers would leave them at random
        raise UserError(
            f"{key} = {short(name)}: has no weights for {sorted(found['missing_keys'])[0]} and "
            f"{len(found['missing_keys']) - 1} more; check the name or folder"
        )
    return backbone.eval()


def is_trunk(place: str, options: dict[str, Any]) -> bool:
    """Whether a config.json is that of a network which a student can start from."""
    config = json.loads(Path(file(place, "config.json", options)).read_text())
    return isinstance(config, dict) and any(family.matches(config) for family in trunks.families())


def normalisation(name: str) -> str:
    """The key in NORMALISATIONS of what a pretrained network expects: by its preprocessor_config.json, where there is
    one, or ImageNet's."""
    place, options = located("teacher.backbone", name, "simclr")
    del options["trust_remote_code"]
    with explained("teacher.backbone", name):
        path = cached_file(place, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False, **options)
        if is_trunk(place, options):
            return "symmetric"
        said = json.loads(Path(path).read_text()) if path else {}
        return "symmetric" if said.get("image_mean") == said.get("image_std") == [0.5] * 3 else "imagenet"


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


def colour(images: torch.Tensor) -> torch.Tensor:
    """What pretrained networks see: of grey frames the last as RGB."""
    return images if images.shape[1] == 3 else images[:, -1:].expand(-1, 3, -1, -1)


def imagenet(images: torch.Tensor) -> torch.Tensor:
    """The mean and deviation that most networks pretrained on ImageNet expect."""
    images = colour(images)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images - mean) / std


def symmetric(images: torch.Tensor) -> torch.Tensor:
    """Values in -1..1, which the first Vision Transformers expect."""
    return 2 * colour(images) - 1


NORMALISATIONS = {"imagenet": imagenet, "symmetric": symmetric, "local_contrast": local_contrast}


class FeatureExtractor(nn.Module):
    """Backbone with its input normalisation: samples [N, C, H, W] in 0..1 to feature maps [N, D, h, w], one per layer
    and scale.

    scales: the sizes, relative to S, at which the backbone sees a sample; a larger one shows finer detail. The maps of
    the first scale come first, the finest layer in front.
    """

    def __init__(self, backbone: nn.Module, normalisation: str, scales: Sequence[float] = (1.0,)):
        super().__init__()
        self.backbone, self.normalisation, self.scales = backbone, normalisation, list(scales)

    @classmethod
    def pretrained(cls, name: str, layers: list[int], scales: Sequence[float]) -> "FeatureExtractor":
        """A network by its name or folder, with the normalisation that it expects."""
        return cls(pretrained(name, layers), normalisation(name), scales).eval()

    def at_scale(self, images: torch.Tensor, scale: float) -> list[torch.Tensor]:
        """The feature maps of one scale, finest first."""
        if scale != 1:
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
        return list(self.backbone(NORMALISATIONS[self.normalisation](images)).feature_maps)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [features for scale in self.scales for features in self.at_scale(images, scale)]

    def save(self, folder: Path, name: str = "backbone") -> None:
        """Writes config and weights, so that later stages need neither the hub nor the folder it came from."""
        config = self.backbone.config.to_dict()
        for volatile in ("_name_or_path", "transformers_version", "architectures"):
            config.pop(volatile, None)
        config |= {"out_features": None, "out_indices": list(self.backbone.config.out_indices)}
        saved = {"config": config, "normalisation": self.normalisation, "scales": self.scales}
        (folder / f"{name}.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
        save_file({k: v.contiguous() for k, v in self.backbone.state_dict().items()}, folder / f"{name}.safetensors")

    @classmethod
    def load(cls, folder: Path, name: str = "backbone") -> "FeatureExtractor":
        saved = json.loads((folder / f"{name}.json").read_text())
        config = saved["config"]
        layers = config.pop("out_indices")
        kind = config.pop("model_type")
        config = TrunkConfig(**config) if kind == TrunkConfig.model_type else AutoConfig.for_model(kind, **config)
        backbone = build(config, layers)
        backbone.load_state_dict(load_file(folder / f"{name}.safetensors"))
        return cls(backbone, saved["normalisation"], saved["scales"]).eval()
