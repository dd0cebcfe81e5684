"""A Vision Transformer without a backbone class as a teacher: its tokens as maps."""

import json

import pytest
import torch
from conftest import one_line
from exporting import export
from students import pictures
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from edge.errors import UserError
from stages.detectors.backbone import FeatureExtractor, imagenet, normalisation, pretrained
from stages.detectors.patchcore import PatchCore, patch_embeddings
from stages.graph.tensors import to_tensor

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32}
SIZES |= {"patch_size": 8, "initializer_range": 0.2}
FAMILIES = {
    "vit": (ViTConfig, ViTForImageClassification, ViTModel, 1),
    "deit": (DeiTConfig, DeiTForImageClassification, DeiTModel, 2),
}


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path):
    """A folder with a random classifier, as the hub has them: its model class, and how many tokens are no patches."""
    config, classifier, model, prefix = FAMILIES[request.param]
    torch.manual_seed(0)
    classifier(config(**SIZES)).save_pretrained(tmp_path / "net")
    return tmp_path / "net", model, prefix


def test_maps_are_the_tokens_of_the_blocks(family):
    folder, model, prefix = family
    extractor = FeatureExtractor(pretrained(str(folder), [0, 3]), "imagenet").eval()
    whole = model.from_pretrained(folder, add_pooling_layer=False).eval()
    images = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        first, last = extractor(images)
        wanted = whole(imagenet(images), interpolate_pos_encoding=True).last_hidden_state
    assert first.shape == last.shape == (2, 16, 6, 6) and not torch.equal(first, last)
    for y in range(6):
        for x in range(6):
            torch.testing.assert_close(last[:, :, y, x], wanted[:, prefix + 6 * y + x], atol=1e-5, rtol=1e-4)


def test_it_comes_back_from_an_artifact_folder(family, tmp_path):
    folder, *_ = family
    extractor = FeatureExtractor(pretrained(str(folder), [1, 2]), "symmetric").eval()
    (tmp_path / "saved").mkdir()
    extractor.save(tmp_path / "saved")
    back = FeatureExtractor.load(tmp_path / "saved")
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        for found, wanted in zip(back(images), extractor(images), strict=True):
            assert torch.equal(found, wanted)


def test_as_a_teacher_its_exported_file_computes_the_same_map(family, tmp_path):
    folder, *_ = family
    samples = pictures(4, 48, 1)
    extractor = FeatureExtractor(pretrained(str(folder), [1, 3]), "imagenet").eval()
    with torch.inference_mode():
        patches = patch_embeddings(extractor(to_tensor(samples)), 3)
    bank = patches.permute(0, 2, 3, 1).reshape(-1, 32)[::9].clone()
    teacher = PatchCore(extractor, bank, 3, "max").eval()
    maps = teacher.maps(samples)
    for form in ("onnx", "openvino"):
        _, device = export(teacher, form, "float32", tmp_path, samples)
        for i, image in enumerate(samples):
            (found,) = device.invoke(device.prepare(image))
            torch.testing.assert_close(torch.from_numpy(found).reshape(maps[i].shape), maps[i], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("layers", [[4], [-1], [2, 1], [1, 1]])
def test_a_layer_that_it_does_not_have_is_refused(family, layers):
    with pytest.raises(UserError, match="give rising numbers from 0 to 3") as caught:
        pretrained(str(family[0]), layers)
    assert one_line(caught).startswith(f"teacher.layers = {layers}: ")


def test_weights_that_are_missing_are_named(family):
    folder, *_ = family
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(UserError, match="has no weights for") as caught:
        pretrained(str(folder), [1])
    one_line(caught)


def test_pixels_are_what_the_network_says_that_it_expects(family):
    folder, *_ = family
    assert normalisation(str(folder)) == "imagenet"
    for mean, wanted in ((0.5, "symmetric"), (0.485, "imagenet")):
        said = {"image_mean": [mean] * 3, "image_std": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
        assert normalisation(str(folder)) == wanted
    (folder / "preprocessor_config.json").write_text("[1]")
    with pytest.raises(UserError, match=f"teacher.backbone = {folder}: can't be loaded"):
        normalisation(str(folder))
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match=f"teacher.backbone = {folder}: can't be loaded"):
        normalisation(str(folder))
