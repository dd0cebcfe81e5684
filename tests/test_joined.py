"""A teacher of two joined networks: against the maps of each one alone, balanced by numpy; its files and exports."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import one_line
from exporting import export
from students import pictures
from test_motion import moving
from test_trunks import TINY, filled, written
from torch import nn
from transformers import ResNetConfig, ResNetModel

from edge.errors import UserError
from stages.detectors import registry
from stages.detectors.backbone import FeatureExtractor, imagenet
from stages.detectors.base import Run
from stages.detectors.joined import JoinedExtractor
from stages.detectors.motion import MotionExtractor
from stages.detectors.padim import Padim
from stages.detectors.patchcore import PatchCore
from stages.graph.tensors import to_tensor
from stages.training.targets import EmbeddingTargets

TRAIN, RUN = pictures(10, 64), Run(0, "test", lambda *_, **__: None)
LAYERS = [[3, 5], [1, 2]]


@pytest.fixture
def networks(tmp_path):
    """Two folders in hub layout: a small MobileNetV2, which sees -1..1, and a ResNet, whose values are larger."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 1, 1], "layer_type": "basic"}
    resnet = ResNetModel(ResNetConfig(**sizes))
    for norm in (module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.constant_(norm.weight, 3)
    resnet.save_pretrained(tmp_path / "resnet")
    return [str(written(filled(TINY), tmp_path / "tiny")), str(tmp_path / "resnet")]


@pytest.fixture
def saved(tmp_path):
    """The folder of an artifact."""
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


def fitted(names, train=TRAIN, **changes) -> PatchCore:
    settings = vars(PatchCore.example()[0]) | {"backbone": names, "layers": LAYERS, "patch_pool": 1, "patch_stride": 1}
    return PatchCore.fit(train, train[:4], SimpleNamespace(**settings | changes), RUN)


def alone(names, samples: np.ndarray) -> list[list[np.ndarray]]:
    """The maps of each network by its own library, resized to the first of all by OpenCV: [N, h, w, D]."""
    images = to_tensor(samples)
    with torch.inference_mode():
        trunk = filled(TINY).features(images * 2 - 1, outside=0.0)
        found = [[trunk[layer - 1, TINY[layer - 1][4] - 1] for layer in LAYERS[0]]]
        resnet = ResNetModel.from_pretrained(names[1]).eval()
        states = resnet(imagenet(images), output_hidden_states=True).hidden_states
        found.append([states[layer] for layer in LAYERS[1]])
    return [[resized(part, found[0][0].shape[2:]) for part in maps] for maps in found]


def resized(maps: torch.Tensor, size) -> np.ndarray:
    """[N, D, h', w'] as [N, h, w, D]."""
    pictures = maps.permute(0, 2, 3, 1).contiguous().numpy()
    return np.stack([cv2.resize(one, tuple(size[::-1]), interpolation=cv2.INTER_LINEAR) for one in pictures])


def test_embeddings_are_those_of_each_network_balanced_and_joined(networks):
    factors = []
    for maps in alone(networks, TRAIN):
        patches = np.concatenate([part.reshape(-1, part.shape[-1]) for part in maps], 1).astype(np.float64)
        factors.append(((patches - patches.mean(0)) ** 2).sum(1).mean() ** -0.5)
    assert max(factors) > 2 * min(factors), "without a balance one would drown the other"
    teacher, others = fitted(networks), pictures(3, 64, seed=1)
    np.testing.assert_allclose(teacher.extractor.balance, factors, rtol=1e-3)
    for samples in (TRAIN, others):
        both = [part * by for maps, by in zip(alone(networks, samples), factors, strict=True) for part in maps]
        wanted = np.concatenate(both, -1)
        with torch.inference_mode():
            found = teacher.embed(to_tensor(samples)).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found, wanted, atol=2e-3 * wanted.std(), rtol=2e-3)
        if samples is TRAIN:
            targets = EmbeddingTargets(teacher, TRAIN, wanted.shape[1:3], 8)
            np.testing.assert_allclose(targets.mean, wanted.mean((0, 1, 2)), atol=2e-3 * wanted.std())


@pytest.mark.slow
def test_it_comes_back_from_its_folder_and_its_exports_say_the_same(networks, saved, tmp_path):
    teacher = fitted(networks, scales=[1.0, 1.5], patch_pool=3, patch_stride=2)
    teacher.save(saved)
    back, others = registry.load(saved), pictures(3, 64, seed=1)
    assert isinstance(back.extractor, JoinedExtractor)
    with torch.inference_mode():
        wanted, again = (one(to_tensor(others))[0] for one in (teacher, back))
    torch.testing.assert_close(again, wanted)
    assert wanted.std() > 0.01
    for form in ("onnx", "openvino"):
        _, device = export(back, form, "float32", tmp_path, others)
        for picture, map_ in zip(others, wanted, strict=True):
            (found,) = device.invoke(device.prepare(picture))
            np.testing.assert_allclose(np.asarray(found).reshape(map_.shape), map_, atol=2e-3, err_msg=form)


def test_one_name_writes_the_files_that_it_always_did(networks, tmp_path):
    for names, layers, more in ((networks[1], [1, 2], {"backbone"}), (networks, LAYERS, {"backbone-0", "backbone-1"})):
        folder = tmp_path / "-".join(sorted(more))
        folder.mkdir()
        fitted(names, layers=layers).save(folder)
        written_ = {path.name for path in folder.iterdir()} - {"manifest.json", "detector.json", "bank.safetensors"}
        wanted = {f"{name}.{end}" for name in more for end in ("json", "safetensors")}
        assert written_ == wanted | ({"joined.json"} if len(more) > 1 else set())
        assert type(registry.load(folder).extractor) is (JoinedExtractor if len(more) > 1 else FeatureExtractor)


def test_motion_is_balanced_against_all_networks_together(networks, saved):
    train = moving(16, 1.5)
    teacher = fitted(networks, train, motion="dis", motion_lag=2)
    teacher.save(saved)
    back = registry.load(saved)
    assert isinstance(back.extractor, MotionExtractor) and isinstance(back.extractor.appearance, JoinedExtractor)
    with torch.inference_mode():
        found, again = (one.embed(to_tensor(train)) for one in (teacher, back))
    torch.testing.assert_close(again, found)
    spread = found.double().permute(1, 0, 2, 3).flatten(1).var(1, correction=0)
    assert float(spread[:-4].sum()) == pytest.approx(1, rel=1e-3) == pytest.approx(float(spread[-4:].sum()), rel=1e-3)


def test_a_baseline_takes_a_join_too(networks, saved):
    settings = vars(Padim.example()[0]) | {"backbone": networks, "layers": LAYERS}
    detector = Padim.fit(TRAIN, TRAIN[:4], SimpleNamespace(**settings), RUN)
    detector.save(saved)
    others = to_tensor(pictures(2, 64, seed=1))
    with torch.inference_mode():
        torch.testing.assert_close(registry.load(saved)(others), detector(others))


@pytest.mark.parametrize(("layers", "place"), [([[9], [1]], 0), ([[3], [7]], 1), ([[3], [2, 1]], 1)])
def test_layers_that_one_lacks_name_the_network(networks, layers, place):
    with pytest.raises(UserError, match="give rising numbers") as caught:
        fitted(networks, layers=layers)
    line = one_line(caught)
    assert line.startswith(f"teacher.layers = {layers[place]}: ") and line.endswith(f"({networks[place]})")


def test_a_network_that_is_not_there_is_named_once(networks):
    with pytest.raises(UserError, match=r"^teacher\.backbone = \./nowhere: no such folder") as caught:
        fitted([networks[0], "./nowhere"])
    assert one_line(caught).count("nowhere") == 1
