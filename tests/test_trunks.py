"""The trunks a student starts from: EfficientNet-Lite against a plain network written here, MobileNetV2 against
transformers, and folders that hold neither."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import one_line
from safetensors.torch import load_file, save_file
from students import smooth
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

from edge.errors import UserError
from stages.detectors import first_layer
from stages.detectors.base import Run
from stages.detectors.student import Student
from stages.detectors.student_init import new_student, pretrained
from stages.detectors.student_network import taps
from stages.detectors.trunks import DEEP, FINE, STEM, load, mobilenet_v2, trunk_nodes
from stages.graph.network import nodes_channels

torch.set_num_threads(1)
LITE0 = [  # expand, channels, stride, kernel, blocks: table 1 of Tan & Le, ICML 2019, without its further columns
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 2, 3, 3),
    (6, 112, 1, 5, 3),
    (6, 192, 2, 5, 4),
    (6, 320, 1, 3, 1),
]
TINY = [(1, 8, 1, 3, 1), (2, 8, 2, 3, 2), (3, 16, 2, 5, 2), (2, 24, 2, 3, 1), (2, 32, 1, 5, 2), (2, 8, 2, 5, 1)]
TINY += [(2, 8, 1, 3, 1)]


class Same(nn.Conv2d):
    """TensorFlow's SAME padding, with a value of black: what the project's trunk sees outside of a picture."""

    def forward(self, x, value: float = 0.0):
        height, width = x.shape[-2:]
        (k, _), (s, _) = self.kernel_size, self.stride
        down, across = (max((math.ceil(n / s) - 1) * s + k - n, 0) for n in (height, width))
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), value=value)
        return super().forward(x)


class Block(nn.Module):
    """timm's InvertedResidual, or its DepthwiseSeparableConv without an expansion; the names are timm's."""

    def __init__(self, before: int, expand: int, after: int, stride: int, kernel: int):
        super().__init__()
        inside = before * expand
        depth = Same(inside, inside, kernel, stride, groups=inside, bias=False)
        if expand == 1:
            self.conv_dw, self.conv_pw = depth, nn.Conv2d(inside, after, 1, bias=False)
            self.bn1, self.bn2 = (nn.BatchNorm2d(c, eps=1e-3) for c in (inside, after))
        else:
            self.conv_pw, self.conv_dw = nn.Conv2d(before, inside, 1, bias=False), depth
            self.conv_pwl = nn.Conv2d(inside, after, 1, bias=False)
            self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(c, eps=1e-3) for c in (inside, inside, after))
        self.expand, self.residual = expand, stride == 1 and before == after

    def forward(self, x):
        out = F.relu6(self.bn1(self.conv_dw(x) if self.expand == 1 else self.conv_pw(x)))
        if self.expand == 1:
            out = self.bn2(self.conv_pw(out))
        else:
            out = self.bn3(self.conv_pwl(F.relu6(self.bn2(self.conv_dw(out)))))
        return out + x if self.residual else out


class EfficientNetLite(nn.Module):
    """The network without its head; pixels -1..1 to the output of every block, by its place (stage, block)."""

    def __init__(self, table):
        super().__init__()
        self.conv_stem, self.bn1 = Same(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        before, blocks = 32, []
        for expand, channels, stride, kernel, count in table:
            stage = []
            for i in range(count):
                stage.append(Block(before, expand, channels, stride if i == 0 else 1, kernel))
                before = channels
            blocks.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*blocks)

    @torch.inference_mode()
    def features(self, pixels, outside: float = -1.0) -> dict:
        """outside: the value of what lies beyond the border, which timm takes as 0."""
        x, found = F.relu6(self.bn1(self.conv_stem(pixels, value=outside))), {}
        for i, stage in enumerate(self.blocks):
            for j, block in enumerate(stage):
                x = found[i, j] = block(x)
        return found


def filled(table, seed: int = 0) -> EfficientNetLite:
    """A random network whose batch norms all differ from the identity."""
    torch.manual_seed(seed)
    network = EfficientNetLite(table).eval()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.uniform_(-0.5, 0.5)
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.05, 0.5)
    return network


def written(network: nn.Module, folder, architecture: str = "tf_efficientnet_lite0"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "num_classes": 1000}))
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def tiny(tmp_path):
    return written(filled(TINY), tmp_path / "tiny")


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def fields(stages) -> list[tuple]:
    return [(s.expand, s.channels, s.stride, s.kernel, s.blocks) for s in stages]


def check_features(folder, reference: EfficientNetLite, table, size: int) -> None:
    stages, layers = load(str(folder))
    assert fields(stages) == table
    _, at = trunk_nodes(stages, 1)
    images = smooth(2, size, seed=9)
    with torch.inference_mode():
        found = pretrained(stages, layers, smooth(4, size)).activations(images)
    wanted = reference.features(images * 2 - 1)
    for stride, place in ((FINE, (2, table[2][4] - 1)), (DEEP, (4, 0))):
        side = size // stride
        assert found[at[stride]].shape == wanted[place].shape == (2, table[place[0]][1], side, side)
        assert wanted[place].std() > 0.1
        assert relative(found[at[stride]], wanted[place]) < 2e-3, stride


def test_efficientnet_lite_computes_what_a_plain_network_does(tiny):
    """To the border, where both see black; of another depth and width than Lite0, so that nothing is assumed."""
    check_features(tiny, filled(TINY), TINY, 96)


@pytest.mark.assets
def test_the_published_lite0_computes_what_a_plain_network_does(assets):
    folder = assets / "weights" / "tf_efficientnet_lite0.in1k"
    reference = EfficientNetLite(LITE0)
    left = reference.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not left.missing_keys
    assert {key.split(".")[0] for key in left.unexpected_keys} == {"conv_head", "bn2", "classifier"}
    check_features(folder, reference.eval(), LITE0, 160)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_folded_in_full(tiny, dtype):
    state = {k: v.to(dtype) for k, v in load_file(tiny / "model.safetensors").items()}
    save_file(state, tiny / "model.safetensors")
    weight, bias = load(str(tiny))[1][0]
    gain = state["bn1.weight"].double() / (state["bn1.running_var"].double() + 1e-3).sqrt()
    torch.testing.assert_close(weight.double(), state["conv_stem.weight"].double() * gain.view(-1, 1, 1, 1))
    torch.testing.assert_close(bias.double(), state["bn1.bias"].double() - state["bn1.running_mean"].double() * gain)


def test_grey_frames_see_what_grey_pictures_of_three_channels_do(tiny):
    stages, layers = load(str(tiny))
    _, at = trunk_nodes(stages, 1)
    grey = smooth(2, 64, seed=3)[:, :1]
    with torch.inference_mode():
        wanted = pretrained(stages, layers, grey.expand(-1, 3, -1, -1)).activations(grey.expand(-1, 3, -1, -1))
        for frames in (1, 4):
            same = grey.expand(-1, frames, -1, -1)
            found = pretrained(stages, layers, same).activations(same)
            assert relative(found[at[DEEP]], wanted[at[DEEP]]) < 1e-3, frames


@pytest.mark.parametrize("width", [1.0, 1.5])
def test_a_student_starts_with_the_features_of_its_trunk(tiny, width):
    """A wider one has further channels; those that the trunk has are the same."""
    student, images = new_student(str(tiny), width, smooth(4, 64)), smooth(2, 64, seed=5)
    wanted = filled(TINY).features(images * 2 - 1)
    with torch.inference_mode():
        found = student.activations(images)
    for source, place in (("fine", (2, 1)), ("deep", (4, 0))):
        features = found[taps(student)[source]][:, : TINY[place[0]][1]]
        assert relative(features, wanted[place]) < 2e-3, source


def test_a_trunk_that_is_not_trained_gets_no_channels_that_do_nothing(tiny):
    """Above width 1 the head and the banks grow alone."""
    settings, _ = Student.example()
    settings.init, settings.width, settings.epochs = str(tiny), 1.5, 0
    samples = (smooth(6, 64) * 255).byte().permute(0, 2, 3, 1).numpy()
    for train_trunk, channels in ((False, 16), (True, 24)):
        settings.train_trunk = train_trunk
        network = Student.fit(samples, samples, settings, Run(0, "distill", lambda *_, **__: None, None)).network
        found = [nodes_channels(network.nodes, name) for name in (taps(network)["fine"], "bank_deep")]
        assert found == [channels, 96], train_trunk


def test_a_narrower_student_starts_from_it(tiny):
    student = new_student(str(tiny), 0.5, smooth(24, 64))
    found = student.activations(smooth(1, 64))
    assert found[taps(student)["deep"]].shape == (1, 16, 4, 4) and found[taps(student)["fine"]].shape == (1, 8, 8, 8)
    assert all(torch.isfinite(value).all() for value in found.values())


# MobileNetV2


def test_mobilenet_v2_has_the_stages_of_the_paper(tmp_path):
    torch.manual_seed(0)
    MobileNetV2Model(MobileNetV2Config()).save_pretrained(tmp_path)
    stages, layers = load(str(tmp_path))
    assert stages == mobilenet_v2.STAGES and STEM == 32
    nodes, at = trunk_nodes(stages, 1)
    assert at == {FINE: "b5_add", DEEP: "b10_project"}
    convolutions = [node for node in nodes if node.kind == "conv"]
    for node, (weight, bias) in zip(convolutions, layers, strict=False):
        assert len(weight) == len(bias) == node.channels and weight.shape[-1] == node.kernel, node.name


@pytest.mark.assets
def test_the_published_mobilenet_v2_computes_what_transformers_does(assets):
    """In the interior of a large picture: outside of it, theirs sees grey and ours black."""
    folder = str(assets / "weights" / "mobilenet-v2-1.0-224")
    stages, layers = load(folder)
    images = smooth(1, 320, seed=9)
    with torch.inference_mode():
        expected = MobileNetV2Model.from_pretrained(folder).eval()(images * 2 - 1, output_hidden_states=True)
        found = pretrained(stages, layers, smooth(4, 320)).activations(images)
    for name, block, side, inner in (("b5_add", 4, 40, 6), ("b10_project", 9, 20, 8)):
        wanted, inside = expected.hidden_states[block], slice(inner, side - inner)
        assert found[name].shape == wanted.shape == (1, wanted.shape[1], side, side)
        assert relative(found[name][..., inside, inside], wanted[..., inside, inside]) < 0.01, name


# what is no trunk


def refused(name, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        new_student(str(name), 1.0, smooth(1, 32))
    line = one_line(caught)
    assert line.startswith(f"student.init = {name}: "), line
    assert all(word in line for word in words), line
    return line


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder"])
def test_a_missing_folder_is_named(name):
    refused(name, "no such folder")


def test_a_network_of_another_kind_is_named(tmp_path):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(tmp_path)
    refused(tmp_path, "is a resnet", "efficientnet_lite, mobilenet_v2, or scratch")


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "tf_efficientnet_b0", "tf_efficientnet_lite0x"])
def test_an_efficientnet_with_other_conventions_is_refused(tmp_path, architecture):
    """timm's own Lite0, without tf_, has symmetric padding, another eps of batch norm and ImageNet's mean."""
    refused(written(filled(TINY), tmp_path / "other", architecture), f"is a {architecture}")


@pytest.mark.parametrize("kind", ["a\nb", "x" * 100_000, None, 5, ["tf_efficientnet_lite0"], {"a": 1}])
@pytest.mark.parametrize("key", ["architecture", "model_type"])
def test_a_config_that_says_something_else_is_one_short_line(tiny, key, kind):
    (tiny / "config.json").write_text(json.dumps({key: kind}))
    assert len(refused(tiny, "a student starts from")) < 600


def test_a_folder_without_some_weights_is_refused(tiny):
    state = load_file(tiny / "model.safetensors")
    for missing in ("bn1.weight", "blocks.2.1.conv_pwl.weight", "blocks.6.0.conv_dw.weight"):
        save_file({k: v for k, v in state.items() if k != missing}, tiny / "model.safetensors")
        refused(tiny, "has no weights", missing)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [("conv_stem", (32, 1, 3, 3)), ("conv_stem", (16, 3, 3, 3)), ("blocks.1.1.conv_dw", (16, 1, 5, 5))],
)
def test_weights_of_another_shape_are_refused(tiny, layer, shape):
    """A first layer for grey pictures would be broadcast without a word."""
    state = load_file(tiny / "model.safetensors")
    state[f"{layer}.weight"] = torch.zeros(shape)
    if layer == "conv_stem":
        state |= {k: v[: shape[0]].clone() for k, v in state.items() if k.startswith("bn1.") and v.ndim}
    save_file(state, tiny / "model.safetensors")
    refused(tiny, str(list(shape)), "instead of")


def test_damaged_or_missing_files_are_refused(tiny, tmp_path):
    weights = (tiny / "model.safetensors").read_bytes()
    for content in (b"", b"{}", weights[:1000], weights[:-4]):
        (tiny / "model.safetensors").write_bytes(content)
        refused(tiny, "can't be loaded")
    (tiny / "model.safetensors").unlink()
    refused(tiny, "can't be loaded")
    for text in ("", "[]", "5", '"tf_efficientnet_lite0"', "{"):
        (tiny / "config.json").write_text(text)
        refused(tiny)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "can't be loaded")


def test_a_mobilenet_that_is_not_whole_or_not_1_0_wide_is_refused(tmp_path):
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.5)).save_pretrained(tmp_path)
    refused(tmp_path, "is 0.5 wide")
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in list(state.items())[:10]}, tmp_path / "model.safetensors", {"format": "pt"})
    refused(tmp_path, "has no weights of a MobileNetV2")


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_first_layer_sees_now_and_what_changed(frames):
    """Against the sums written out: half of the filters see the last frame, the others also its change since another
    one; every earlier frame is one of these as soon as there are filters enough."""
    weight, clip = torch.randn(12, 3, 3, 3), torch.rand(1, frames, 9, 9)
    found = torch.nn.functional.conv2d(clip, first_layer.over_time(weight, frames))
    for i in range(12):
        kernel = weight[i : i + 1].sum(1, keepdim=True)
        wanted = torch.nn.functional.conv2d(clip[:, -1:], kernel)
        if i % 2 and frames > 1:
            earlier = clip[:, [-2 - (i // 2) % (frames - 1)]]
            wanted = wanted + torch.nn.functional.conv2d(clip[:, -1:] - earlier, kernel)
        torch.testing.assert_close(found[:, i], wanted[:, 0], atol=1e-5, rtol=1e-4)
