"""The student's trunks as a teacher's backbone: against a plain network and transformers, and back from a folder."""

import pytest
import torch
from conftest import one_line
from exporting import export
from students import pictures
from test_trunks import TINY, filled, relative, written
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model

from edge.errors import UserError
from stages.detectors import registry
from stages.detectors.backbone import FeatureExtractor, normalisation, pretrained
from stages.detectors.patchcore import PatchCore, patch_embeddings
from stages.graph.tensors import to_tensor


@pytest.fixture
def tiny(tmp_path):
    return written(filled(TINY), tmp_path / "tiny")


def extractor(folder, layers: list[int], scales=(1.0,)) -> FeatureExtractor:
    return FeatureExtractor(pretrained(str(folder), layers), normalisation(str(folder)), scales).eval()


def test_maps_are_those_of_the_stages_to_the_last(tiny):
    images = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        maps = extractor(tiny, [1, 3, 7])(images)
    wanted = filled(TINY).features(images * 2 - 1, outside=0.0)
    assert [tuple(m.shape[2:]) for m in maps] == [(48, 32), (12, 8), (3, 2)]
    for found, stage in zip(maps, (0, 2, 6), strict=True):
        assert relative(found, wanted[stage, TINY[stage][4] - 1]) < 1e-4, stage


def test_mobilenet_computes_what_transformers_does(tmp_path):
    torch.manual_seed(0)
    network = MobileNetV2Model(MobileNetV2Config()).eval()
    for conv in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight)
    network.save_pretrained(tmp_path / "net")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        (found,) = extractor(tmp_path / "net", [7])(images)
        wanted = network(images * 2 - 1, output_hidden_states=True).hidden_states[-1]
    assert found.shape == wanted.shape == (1, 320, 2, 2) and wanted.std() > 1e-3
    assert relative(found, wanted) < 1e-3


def test_it_comes_back_from_an_artifact_folder_and_is_exported(tiny, tmp_path):
    teacher = extractor(tiny, [2, 4], [1.0, 1.5])
    images = pictures(2, 64)
    with torch.inference_mode():
        bank = patch_embeddings(teacher(to_tensor(images)), 3).permute(0, 2, 3, 1).flatten(0, 2)[::7] + 0.01
    (tmp_path / "saved").mkdir()
    PatchCore(teacher, bank, 3, "max").eval().save(tmp_path / "saved")
    back = registry.load(tmp_path / "saved")
    with torch.inference_mode():
        wanted, again = (net(to_tensor(images))[0] for net in (PatchCore(teacher, bank, 3, "max").eval(), back))
    assert torch.equal(wanted, again)
    _, device = export(back, "onnx", "float32", tmp_path, images)
    for image, map_ in zip(images, wanted, strict=True):
        (found,) = device.invoke(device.prepare(image))
        torch.testing.assert_close(torch.from_numpy(found).reshape(map_.shape), map_, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("layers", [[3, 2], [2, 2], [8]])
def test_layers_that_it_lacks_are_one_line(tiny, layers):
    with pytest.raises(UserError, match="give rising numbers from 0 to 7") as caught:
        pretrained(str(tiny), layers)
    assert one_line(caught).startswith("teacher.layers = ")


def test_a_folder_without_its_weights_names_the_teacher(tiny):
    (tiny / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"teacher.backbone = {tiny}: can't be loaded") as caught:
        pretrained(str(tiny), [1])
    one_line(caught)
