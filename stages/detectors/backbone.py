"""Feature extractors: any Hugging Face backbone or ViT by name or folder, and a small ResNet to train from scratch."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
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
from stages.detectors import token_backbone
from stages.detectors.token_backbone import TokenBackbone

# of a file that torch can't be made to run code from, as what the rest computes in; and what was not in it
WEIGHTS = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
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


def located(key: str, name: str, otherwise: str) -> tuple[str, dict[str, Any]]:
    """What transformers calls the network that the param `key` names, and the options to load it with: a local folder,
    or a name on the hub, whose version `name@revision` pins (a branch, tag or commit; without it the hub's main).

    No code that comes with a network is run, and weights are read as safetensors, never as pickle. otherwise: what
    else the param can be, for the message.
    """
    shown = f"{key} = {short(name)}"
    hub, at, revision = name.partition("@")
    try:
        local, base = os.path.isdir(name), bool(at) and os.path.isdir(hub)
    except ValueError as error:  # a zero byte
        raise UserError(f"{shown}: {error}; correct it") from None
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    if local:
        return name, options
    if base:
        raise UserError(f"{shown}: a local folder has no revision; leave out @{short(revision)}")
    if name.startswith((".", "/", "~")) or hub.count("/") > 1:
        raise UserError(f"{shown}: no such folder; give a folder, a Hugging Face name or {otherwise}")
    if at and not re.fullmatch(r"\w[\w./-]{0,199}", revision):
        raise UserError(f"{shown}: after @ comes a branch, tag or commit of the hub; correct it")
    return hub, options | ({"revision": revision} if at else {})


@contextmanager
def explained(key: str, name: str):
    """UserError for whatever transformers raises for a folder or name that it can't load."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it checks little of what a config says, so that anything may be raised
        why = short((str(error).strip() or type(error).__name__).splitlines()[0], 300)
        if "trust_remote_code" in str(error):
            why = "it needs code that comes with it (auto_map), which is never run"
        raise UserError(f"{key} = {short(name)}: can't be loaded ({why}); check the name or folder") from None


def pretrained(name: str, layers: list[int]) -> nn.Module:
    """A backbone with its published weights, from a hub name or a local folder in hub layout; UserError if there is
    none."""
    key = "teacher.backbone"
    place, options = located(key, name, "simclr")
    with explained(key, name):
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


def normalisation(name: str) -> str:
    """The key in NORMALISATIONS of what a pretrained network expects: by its preprocessor_config.json, where there is
    one, or ImageNet's."""
    place, options = located("teacher.backbone", name, "simclr")
    del options["trust_remote_code"]
    with explained("teacher.backbone", name):
        path = cached_file(place, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False, **options)
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
