"""The teacher against scipy, scikit-learn, Hugging Face and plain loops."""

import itertools
import math
from types import SimpleNamespace

import cv2
import exporting
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import one_line
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors
from transformers import Dinov2Model, ResNetModel

from edge.errors import UserError
from stages.compile.onnx_export import export
from stages.detectors.backbone import (
    FeatureExtractor,
    build,
    imagenet,
    local_contrast,
    pretrained,
    small_resnet_config,
)
from stages.detectors.base import Run
from stages.detectors.patchcore import PatchCore, collect_patches, patch_embeddings
from stages.detectors.registry import load
from stages.graph.tensors import to_tensor

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 [count, size, size, 3]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(count, size, size, 3)), (0, 2, 2, 0))
    return np.clip(noise / noise.std() * 50 + 128, 0, 255).astype(np.uint8)


def predict(teacher: PatchCore, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and scores of uint8 images."""
    with torch.inference_mode():
        return teacher(to_tensor(images))


class Fixed(torch.nn.Module):
    """Stands for a feature extractor: the picture itself, so that a patch is its three values."""

    def forward(self, images):
        return [images]


# patch features and maps


def pooled_by_loops(x: np.ndarray, pool: int) -> np.ndarray:
    h, w = x.shape[2:]
    out, r = np.empty_like(x), pool // 2
    for i, j in itertools.product(range(h), range(w)):
        near = x[:, :, max(0, i - r) : i + r + 1, max(0, j - r) : j + r + 1]
        out[:, :, i, j] = near.sum((2, 3)) / pool**2  # zeros beyond the border, as in the published code
    return out


def enlarged_by_loops(x: np.ndarray, side: int) -> np.ndarray:
    """Bilinear with half-pixel centres."""
    out = np.zeros((*x.shape[:2], side, side))

    def weights(i):
        at = min(max((i + 0.5) * x.shape[-1] / side - 0.5, 0), x.shape[-1] - 1)
        low = math.floor(at)
        return [(low, 1 - at + low), (min(low + 1, x.shape[-1] - 1), at - low)]

    for i, j in itertools.product(range(side), repeat=2):
        for (y, a), (z, b) in itertools.product(weights(i), weights(j)):
            out[:, :, i, j] += a * b * x[:, :, y, z]
    return out


@pytest.mark.parametrize(("pool", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (1, 4), (3, 3)])
def test_patch_features_against_loops(pool, stride):
    rng = np.random.default_rng(pool)
    fine, coarse = rng.normal(size=(2, 3, 8, 8)), rng.normal(size=(2, 5, 4, 4))
    got = patch_embeddings([torch.tensor(fine), torch.tensor(coarse)], pool, stride)
    joined = np.concatenate([pooled_by_loops(fine, pool), enlarged_by_loops(pooled_by_loops(coarse, pool), 8)], 1)
    starts = range(0, 8, stride)  # the last cell is smaller where 8 is no multiple of the stride
    expected = np.array([[joined[:, :, y : y + stride, x : x + stride].mean((2, 3)) for x in starts] for y in starts])
    np.testing.assert_allclose(got.numpy(), expected.transpose(2, 3, 0, 1), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_map_is_the_distance_to_the_nearest_entry(stride):
    """With a stride, enlarged to the grid of the finest stage; the score is the largest distance itself."""
    extractor = FeatureExtractor(build(small_resnet_config(), [0, 1]), "local_contrast").eval()
    images = pictures(3, 32)
    with torch.inference_mode():
        features = patch_embeddings(extractor(to_tensor(images)), 3, stride).permute(0, 2, 3, 1).flatten(0, 2)
    bank = features[torch.randperm(len(features), generator=seeded())[: 40 // stride]] + 0.05
    maps, scores = predict(PatchCore(extractor, bank, 3, "max", stride).eval(), images)
    expected, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.numpy()).kneighbors(features.numpy())
    expected = expected.reshape(3, 1, 8 // stride, 8 // stride)
    np.testing.assert_allclose(scores.numpy(), expected.max((1, 2, 3)), atol=2e-3)
    expected = enlarged_by_loops(expected, 8) if stride > 1 else expected
    assert maps.shape == (3, 1, 8, 8) and expected.std() > 0.01
    np.testing.assert_allclose(maps.numpy(), expected, atol=2e-3)


def reweighted_score(patches: np.ndarray, bank: np.ndarray, b: int) -> float:
    """Equation 7 of the paper for one picture."""
    distances = np.linalg.norm(patches[:, None] - bank[None], axis=2)
    test_patch = distances.min(axis=1).argmax()
    nearest = distances[test_patch].argmin()
    score = distances[test_patch, nearest]
    neighbours = np.argsort(np.linalg.norm(bank - bank[nearest], axis=1))[:b]
    return (1 - np.exp(score) / np.exp(distances[test_patch, neighbours]).sum()) * score


@pytest.mark.parametrize("entries", [5, 60])
def test_reweighted_score_against_equation_7(entries):
    bank = torch.randn(entries, 3, generator=seeded(entries)) * 2
    images = torch.rand(4, 3, 6, 6, generator=seeded(1)) * 4
    maps, scores = PatchCore(Fixed(), bank, 1, "reweighted")(images)
    patches = images.permute(0, 2, 3, 1).reshape(4, 36, 3).double().numpy()
    expected = [reweighted_score(p, bank.double().numpy(), min(9, entries)) for p in patches]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4)
    assert torch.all(scores < maps.amax((1, 2, 3)))


def test_reweighted_score_stays_finite_far_away():
    bank = torch.randn(20, 3, generator=seeded())
    _, scores = PatchCore(Fixed(), bank, 1, "reweighted")(torch.full((1, 3, 2, 2), 1e4))
    assert torch.isfinite(scores).all() and scores.item() > 1e3


# the patches that the memory bank is chosen from


def grid(train) -> int:
    """Patches of a picture: stride 2 on the grid of the first stage."""
    return (train.shape[1] // 8) ** 2


def settings(**changes) -> SimpleNamespace:
    example, _ = PatchCore.example()
    return SimpleNamespace(**vars(example) | changes)


def test_of_a_small_set_all_patches_are_taken_in_the_order_of_before():
    """Against the code of before, which drew a quota of each picture: all, where they are no more than the limit."""
    train, extractor = pictures(9, 32), FeatureExtractor(build(small_resnet_config(), [0, 1]), "local_contrast").eval()
    total = len(train) * grid(train)
    for most in (total, 10 * total):
        generator, drawn = seeded(3), []
        with torch.inference_mode():
            for i in range(0, len(train), 8):
                found = patch_embeddings(extractor(to_tensor(train[i : i + 8])), 3, 2).permute(0, 2, 3, 1)
                for patches in found.reshape(len(found), -1, found.shape[-1]):
                    drawn.append(patches[torch.randperm(len(patches), generator=generator)[: most // len(train)]])
        mine = seeded(3)
        got, count = collect_patches(extractor, train, settings(coreset_max_patches=most), mine)
        assert count == total and torch.equal(got, torch.cat(drawn))
        assert torch.equal(mine.get_state(), generator.get_state()), "what is drawn next is the same too"


def test_of_a_large_set_the_bank_is_a_coreset_and_says_what_was_done(capsys):
    """Rare pictures, which the quota of before nearly left out; the bank has its largest size."""
    train = np.concatenate([pictures(1, 32, seed=1).repeat(30, axis=0), pictures(2, 32, seed=2)])
    most = 100
    total = len(train) * grid(train)
    run = Run(0, "teacher", lambda step, **values: None)
    chosen = settings(coreset_max_patches=most, coreset_ratio=0.5, simclr_steps=0)
    torch.manual_seed(0)
    teacher = PatchCore.fit(train, train[:1], chosen, run)
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert lines == [
        f"teacher: warning: coreset_ratio asks for {total // 2} of {total} patches; the memory bank holds "
        f"coreset_max_patches = {most}, a coreset of all"
    ]
    assert len(teacher.bank) == most
    _, scores = predict(teacher, train)
    assert scores.max() < 0.05 * teacher.bank.norm(dim=1).mean(), "every patch, the rare ones too, is near the bank"
    torch.manual_seed(0)
    assert torch.equal(PatchCore.fit(train, train[:1], chosen, run).bank, teacher.bank)


# backbones


def test_local_contrast_against_scipy():
    images = to_tensor(pictures(2, 40)).double()

    def mean(x):  # of the part of the window that lies in the picture
        inside = ndimage.uniform_filter(np.ones_like(x), (1, 1, 17, 17), mode="constant")
        return ndimage.uniform_filter(x, (1, 1, 17, 17), mode="constant") / inside

    centred = images.numpy() - mean(images.numpy())
    expected = centred / (np.sqrt(mean(centred**2)) + 0.03)
    np.testing.assert_allclose(local_contrast(images).numpy(), expected, atol=1e-9)


def make_teacher(backbone, normalisation: str, size: int, score: str) -> tuple[PatchCore, np.ndarray]:
    """A teacher whose bank is close to patches of its pictures."""
    extractor, images = FeatureExtractor(backbone, normalisation).eval(), pictures(4, size, seed=5)
    with torch.inference_mode():
        patches = patch_embeddings(extractor(to_tensor(images[:2])), 3).permute(0, 2, 3, 1).flatten(0, 2)
    bank = patches[::3] + 0.05 * torch.randn(patches[::3].shape, generator=seeded())
    return PatchCore(extractor, bank, 3, score).eval(), images


@pytest.mark.parametrize("scales", [[1.0, 1.5], [0.5, 2.0]])
def test_scales_are_enlarged_pictures_one_after_the_other(scales):
    """Each scale by OpenCV's bilinear resizing; the patches are on the grid of the first, and the file keeps both."""
    images = pictures(2, 64)
    extractor = FeatureExtractor(build(small_resnet_config(), [0, 1]), "local_contrast", scales).eval()
    one = FeatureExtractor(extractor.backbone, "local_contrast").eval()
    with torch.inference_mode():
        found, expected = extractor(to_tensor(images)), []
        for scale in scales:
            side = int(64 * scale)
            enlarged = np.stack([cv2.resize(im.astype(np.float32) / 255, (side, side)) for im in images])
            expected += one(torch.from_numpy(enlarged).permute(0, 3, 1, 2))
        for got, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)
        patches = patch_embeddings(found, 3, 2)
    side = int(64 * scales[0]) // 8
    assert patches.shape == (2, 2 * (32 + 32), side, side) and patches.std((0, 2, 3)).min() > 0


def test_two_scales_as_onnx_and_as_a_folder(tmp_path):
    torch.manual_seed(0)
    extractor, images = (
        FeatureExtractor(build(small_resnet_config(), [0, 1]), "local_contrast", [1.0, 1.5]),
        pictures(3, 32),
    )
    patches = patch_embeddings(extractor.eval()(to_tensor(images)), 3).permute(0, 2, 3, 1).flatten(0, 2)
    teacher = PatchCore(extractor, patches[::5].detach() + 0.1, 3, "max").eval()
    teacher.save(tmp_path)
    export(load(tmp_path).export().module, (32, 32), tmp_path / "model.onnx", ["map"])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for image in images:
        maps, _ = predict(teacher, image[None])
        found = session.run(None, {"image": to_tensor(image[None]).contiguous().numpy()})
        np.testing.assert_allclose(found[0], maps.numpy(), atol=1e-3)
    assert maps.std() > 0.02


def test_dinov2_folder_gives_the_features_of_its_blocks(dinov2):
    images = to_tensor(pictures(2, 48))
    extractor = FeatureExtractor(pretrained(str(dinov2), [1, 2]), "imagenet").eval()
    whole = Dinov2Model.from_pretrained(dinov2).eval()
    with torch.inference_mode():
        maps = extractor(images)
        states = whole(imagenet(images), output_hidden_states=True).hidden_states
        for found, state in zip(maps, states[1:], strict=True):
            expected = whole.layernorm(state)[:, 1:].transpose(1, 2).reshape(2, 32, 6, 6)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", ["max", "reweighted"])
def test_dinov2_teacher_as_onnx(dinov2, score, tmp_path):
    teacher, images = make_teacher(pretrained(str(dinov2), [1, 2]), "imagenet", 48, score)
    outputs = ["map", "score"] if score == "reweighted" else ["map"]
    export(teacher.export().module, (48, 48), tmp_path / "model.onnx", outputs)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == outputs
    for image in images:
        maps, scores = predict(teacher, image[None])
        found = session.run(None, {"image": to_tensor(image[None]).contiguous().numpy()})
        np.testing.assert_allclose(found[0], maps.numpy(), atol=1e-3)
        if score == "reweighted":
            np.testing.assert_allclose(found[1], scores.numpy(), atol=1e-3)
    assert maps.std() > 0.1


@pytest.mark.parametrize("score", ["max", "reweighted"])
def test_dinov2_teacher_in_openvino(dinov2, score, tmp_path):
    """The same file gives OpenVINO's: the nearest neighbours of eq. 7 too."""
    teacher, images = make_teacher(pretrained(str(dinov2), [1, 2]), "imagenet", 48, score)
    _, device = exporting.export(teacher, "openvino", "float32", tmp_path, images)
    for image in images:
        found = device.invoke(device.prepare(image))
        assert len(found) == 1 + (score == "reweighted")
        for value, wanted in zip(found, predict(teacher, image[None]), strict=False):
            np.testing.assert_allclose(np.asarray(value).ravel(), wanted.numpy().ravel(), atol=1e-3)


@pytest.mark.assets
def test_resnet_18_folder_gives_the_features_of_its_stages(assets):
    folder = assets / "weights" / "resnet-18"
    images = to_tensor(pictures(1, 64))
    extractor = FeatureExtractor(pretrained(str(folder), [2, 3]), "imagenet").eval()
    whole = ResNetModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        found = extractor(images)
        states = whole(imagenet(images), output_hidden_states=True).hidden_states
    assert [tuple(m.shape) for m in found] == [(1, 128, 8, 8), (1, 256, 4, 4)]
    for got, expected in zip(found, states[2:4], strict=True):
        torch.testing.assert_close(got, expected)


# the folder


def test_roundtrip_is_byte_identical_and_gives_equal_maps(tmp_path):
    teacher, images = make_teacher(build(small_resnet_config(), [0, 1]), "local_contrast", 32, "reweighted")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    teacher.save(folders[0])
    loaded = load(folders[0])
    loaded.save(folders[1])
    names = {p.name for p in folders[0].iterdir()}
    assert names == {p.name for p in folders[1].iterdir()} and "bank.safetensors" in names
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    for before, after in zip(predict(teacher, images), predict(loaded, images), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("damage", ["flip", "remove", "no manifest"])
def test_a_damaged_folder_is_refused(damage, tmp_path):
    teacher, _ = make_teacher(build(small_resnet_config(), [0]), "local_contrast", 32, "max")
    teacher.save(tmp_path)
    bank = tmp_path / "bank.safetensors"
    if damage == "flip":
        content = bytearray(bank.read_bytes())
        content[-1] ^= 1
        bank.write_bytes(content)
    elif damage == "remove":
        bank.unlink()
    else:
        (tmp_path / "manifest.json").unlink()
    culprit = r"manifest\.json" if damage == "no manifest" else r"bank\.safetensors: damaged or missing"
    with pytest.raises(UserError, match=culprit) as caught:
        load(tmp_path)
    assert "dvc repro" in one_line(caught)
