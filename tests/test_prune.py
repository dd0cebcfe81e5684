"""Pruning: which channels go, how many, and what is left of the function."""

import copy

import pytest
import torch
import yaml
from conftest import ROOT
from scipy.stats import spearmanr
from students import lively, smooth, whole

from edge.errors import UserError
from stages.common import params
from stages.compile import onnx_export
from stages.detectors.memory_bank import part
from stages.detectors.student_network import EMBEDDING, SOURCES, architecture
from stages.detectors.trunks.mobilenet_v2 import STAGES
from stages.distill.__main__ import distill
from stages.graph import prune as pruning
from stages.graph.batchnorm import fold, recalibrate
from stages.graph.network import Network, Node
from stages.graph.prunable import check_prune_ratio, most_prunable
from stages.graph.prune import KEPT, coupled, prune, sensitivity, work

torch.set_num_threads(1)


def size_of(student: Network) -> int:
    return sum(p.numel() for p in student.parameters())


def listed(outputs) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def change(student: Network, images: torch.Tensor, name: str, channel: int) -> float:
    """The squared change of both outputs, in their deviations, when one channel of `name` really gives its mean."""

    def flatten(module, inputs, output):
        output = output.clone()
        output[:, channel] = output[:, channel].mean()
        return output

    with torch.no_grad():
        before = listed(student(images))
        hook = student.ops[name].register_forward_hook(flatten)
        after = listed(student(images))
        hook.remove()
    return sum(float(((a - b) / b.std()).square().sum()) for a, b in zip(after, before, strict=True))


@pytest.mark.slow
def test_sensitivity_before_a_linear_layer_is_exact():
    """Without patch embeddings, the channels of `neck` reach the mask through one 1 x 1 convolution: the first order is
    all there is."""
    student, images = part(lively(0.5), {"mask"}), smooth(4, 64)
    found = torch.stack([sensitivity(student, images, seed)["neck"] for seed in range(300)]).mean(0)
    wanted = torch.tensor([change(student, images, "neck", k) for k in range(len(found))])
    torch.testing.assert_close(found, wanted, rtol=0.25, atol=float(wanted.max()) * 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["b4_project", "b7_expand", "b10_project", "fine"])
def test_sensitivity_ranks_channels_as_their_removal_does(name):
    student, images = lively(0.5), smooth(8, 64)
    found = torch.stack([sensitivity(student, images, seed)[name] for seed in range(20)]).mean(0)
    wanted = [change(student, images, name, k) for k in range(len(found))]
    assert spearmanr(found.numpy(), wanted).statistic > 0.8


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_the_share_of_macs_is_removed(ratio, tmp_path):
    """Counted in the exported file; the last step of 8 channels may take a little more than was asked for."""
    student, images = lively(0.5), smooth(4, 64)
    pruned = prune(copy.deepcopy(student), ratio, images)
    channels = {n.name: n.channels for n in pruned.nodes if n.kind == "conv"}
    before = {n.name: n.channels for n in student.nodes if n.kind == "conv"}
    for head, count in (("mask", 1), *((f"embed_{source}", EMBEDDING) for source in SOURCES)):
        assert channels.pop(head) == before.pop(head) == count
    assert all(c % 8 == 0 and max(8, KEPT * before[name]) <= c <= before[name] for name, c in channels.items())
    for name, count in channels.items():
        assert pruned.ops[name].conv.weight.shape[0] == count
    small, large = (
        onnx_export.cost(onnx_export.export(fold(s), (64, 64), tmp_path / "model.onnx", s.heads))
        for s in (pruned, student)
    )
    assert (small["macs"], large["macs"]) == tuple(s.cost(64, 64)["macs"] for s in (pruned, student))
    assert ratio <= 1 - small["macs"] / large["macs"] < ratio + 0.05
    assert small["params"] < large["params"] and size_of(pruned) < size_of(student)
    mask, *embeddings = pruned(images)
    assert mask.shape == (4, 1, 8, 8) and len(embeddings) == len(SOURCES)
    assert all(found.shape == (4, EMBEDDING, 4, 4) and found.std() > 0 for found in embeddings)
    (tmp_path / "saved").mkdir()
    pruned.save(tmp_path / "saved")
    for found, wanted in zip(Network.load(tmp_path / "saved")(images), pruned(images), strict=True):
        assert torch.equal(found, wanted)


def test_work_counts_lanes_values_and_depthwise_products():
    """By hand, for a picture of 32 x 32; 24 channels take as long as 32."""
    nodes = [Node("a", "conv", ("input",), 24, 3, 2), Node("depth", "conv", ("a",), 24, 3, depthwise=True)]
    nodes += [Node("up", "up", ("depth",)), Node("b", "conv", ("up",), 8)]
    found = work(Network(nodes), {}, (32, 32))
    assert found == 256 * 32 * (27 + 37) + 256 * 32 * (9 * 8 + 37) + 1024 * 16 * (24 + 37)
    fewer = work(Network(nodes), {"a": 16, "depth": 16}, (32, 32))
    assert fewer == 256 * 16 * (27 + 37) + 256 * 16 * (9 * 8 + 37) + 1024 * 16 * (16 + 37)


def test_channels_go_where_they_save_time(monkeypatch):
    """As many multiply-accumulates go, but more of the estimated time than where they are all that counts."""
    student, images = lively(0.5), smooth(4, 64)
    whole, pruned = work(student, {}, (64, 64)), prune(copy.deepcopy(student), 0.2, images)
    monkeypatch.setattr(pruning, "VALUE", 0)
    monkeypatch.setattr(pruning, "DEPTHWISE", 1)
    monkeypatch.setattr(pruning, "LANES", 8)
    by_macs = prune(copy.deepcopy(student), 0.2, images)
    monkeypatch.undo()
    saved, others = (1 - work(each, {}, (64, 64)) / whole for each in (pruned, by_macs))
    assert saved > 1.02 * others > 0


def test_channels_that_do_nothing_go_first():
    """Half of the channels of one layer are made tiny: nothing but those goes, and the function stays."""
    student, images = lively(0.5), smooth(4, 64)
    idle = torch.arange(192) % 2 == 0
    for name in ("b8_expand", "b8_depth"):
        op = student.ops[name]
        for tensor in (op.conv.weight, op.norm.weight, op.norm.bias):
            tensor.data[idle] *= 1e-4
    student.ops["b8_project"].conv.weight.data[:, idle] *= 1e-4
    recalibrate(student, images)
    before = {n.name: n.channels for n in student.nodes}
    pruned = prune(copy.deepcopy(student), 0.02, images)
    after = {n.name: n.channels for n in pruned.nodes}
    assert {name for name in before if after[name] != before[name]} == {"b8_expand", "b8_depth"}
    assert 96 <= after["b8_expand"] == after["b8_depth"] < 192
    kept = pruned.ops["b8_depth"].norm.weight.abs() > 1e-2
    assert kept.sum() == 96, "every channel that does something is still there"
    for found, wanted in zip(pruned(images), student(images), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_channels_that_a_minimum_looks_through_stay():
    student = whole(0.25, 64)
    pruned = prune(copy.deepcopy(student), 0.1, smooth(4, 64))
    before, after = ({n.name: n.channels for n in s.nodes} for s in (student, pruned))
    assert all(after[f"bank_{source}"] == before[f"bank_{source}"] > 0 for source in SOURCES)
    assert after["mask"] == 1 and after != before
    assert pruned(smooth(2, 64)).shape == (2, 1, 8, 8)


def joined(width: int) -> Network:
    """Two layers side by side, a depthwise one behind them, and `width` channels added to the two."""
    torch.manual_seed(1)
    nodes = [
        Node("a", "conv", ("input",), 32, 3, 2),
        Node("b", "conv", ("a",), 16),
        Node("x", "concat", ("a", "b")),
        Node("depth", "conv", ("x",), 48, 3, depthwise=True),
        Node("gate", "sigmoid", ("depth",)),
        Node("y", "mul", ("gate", "x")),
        Node("c", "conv", ("a",), width),
        Node("z", "sub", ("y", "c")) if width == 48 else Node("z", "concat", ("y", "c")),
        Node("small", "pool", ("z",), kernel=2, stride=2),
        Node("out", "conv", ("small",), 3, norm=False, act=False),
    ]
    network = Network(nodes)
    recalibrate(network, smooth(4, 32))
    return network.eval()


def test_layers_behind_a_concatenation_lose_the_channels_of_its_inputs():
    """Idle channels of each input go, and the function stays: the right ones are taken out of the layer behind."""
    network, images = joined(8), smooth(4, 32)
    assert {frozenset(members) for *_, members in coupled(network, images[:1])} == {
        frozenset(group) for group in (("a", "depth"), ("b", "depth"), ("c",))
    }
    idle = {"a": torch.arange(32) % 2 == 0, "b": torch.arange(16) < 8}
    for name, channels in idle.items():
        for tensor in (network.ops[name].conv.weight, network.ops[name].norm.weight, network.ops[name].norm.bias):
            tensor.data[channels] *= 1e-5
    depth = network.ops["depth"]
    for tensor in (depth.conv.weight, depth.norm.weight, depth.norm.bias):
        tensor.data[torch.cat(list(idle.values()))] *= 1e-5
    recalibrate(network, images)
    pruned = prune(copy.deepcopy(network), 0.3, images)
    channels = {n.name: n.channels for n in pruned.nodes}
    assert channels["depth"] == channels["a"] + channels["b"] < 48
    assert channels["a"] >= 16 and channels["b"] >= 8
    torch.testing.assert_close(pruned(images), network(images), atol=1e-3, rtol=1e-3)


def test_channels_that_meet_a_layer_of_another_width_stay():
    network = joined(48)
    assert coupled(network, smooth(1, 32)) == []
    with pytest.raises(UserError, match=r"no more than 0\.0 of the multiply-accumulates can go"):
        prune(network, 0.1, smooth(4, 32))


def test_ratio_zero_prunes_nothing():
    student = lively(0.25)
    assert prune(student, 0.0, smooth(2, 32)) is student


def test_too_much_is_refused():
    with pytest.raises(UserError, match=r"^compress.prune_ratio = 0.94: no more than 0\.\d\d of the multiply-accumul"):
        prune(lively(0.5), 0.94, smooth(2, 64))


@pytest.mark.parametrize("width", [0.1, 0.25, 0.5])
def test_what_can_be_pruned_at_most_is_known_from_the_nodes(width):
    """Against pruning itself: a hundredth less works, a hundredth more is refused in the same words."""
    nodes, images = architecture(STAGES, width), smooth(4, 64)
    most = most_prunable(nodes, (64, 64))
    check_prune_ratio(most - 0.01, nodes, (64, 64))
    prune(lively(width), most - 0.01, images)
    with pytest.raises(UserError) as before:
        check_prune_ratio(most + 0.01, nodes, (64, 64))
    with pytest.raises(UserError) as after:
        prune(lively(width), most + 0.01, images)
    assert str(before.value) == str(after.value)
    assert f"no more than {int(100 * most) / 100} of the" in str(before.value) and "\n" not in str(before.value)


def test_the_check_changes_no_random_number_and_no_network():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    nodes = architecture(STAGES, 0.25)
    most_prunable(nodes, (64, 64), 1)
    assert torch.equal(torch.rand(3), wanted) and nodes == architecture(STAGES, 0.25)
    check_prune_ratio(0, nodes, (64, 64))


def test_a_student_that_cannot_be_pruned_is_refused_before_it_is_trained(here, monkeypatch):
    """At width 0.1; nothing is there to be trained on."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["student"]["width"], tree["compress"]["prune_ratio"] = 0.1, 0.3
    (here / "params.yaml").write_text(yaml.safe_dump(tree))
    (here / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.setattr("stages.distill.__main__.load_samples", lambda *_: pytest.fail("read the pictures"))
    with pytest.raises(
        UserError, match=r"compress\.prune_ratio = 0\.3: no more than 0\.2 of .* or a larger student\.width"
    ):
        distill(params.load("distill"))
