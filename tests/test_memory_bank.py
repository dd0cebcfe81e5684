"""The two memory banks in the student's graph against brute force and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.metrics import pairwise_distances
from students import WEIGHTS, lively, pictures, smooth

from edge.errors import UserError
from stages.detectors import memory_bank
from stages.detectors.student_network import SOURCES
from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import flatten_patches, to_tensor

torch.set_num_threads(1)
TRAIN, VAL, NEW = pictures(12, 64, 1), pictures(9, 64, 2), pictures(5, 64, 3)


@pytest.fixture(scope="module")
def body() -> Network:
    return lively(0.25)


@pytest.fixture(scope="module")
def banks(body) -> dict:
    return memory_bank.choose_banks(memory_bank.outputs(body, TRAIN), 40, 0)


@pytest.fixture(scope="module")
def joined(body, banks) -> tuple[Network, dict]:
    """The student that the body is part of, and what is on record of its parts."""
    return memory_bank.with_banks(body, body, banks, VAL, WEIGHTS)


def start(body: Network) -> Network:
    """The same without a mask, as a student starts."""
    return memory_bank.part(body, {f"embed_{source}" for source in SOURCES})


def every(body: Network, samples: np.ndarray, source: str) -> torch.Tensor:
    """All patch embeddings [n, D]."""
    return flatten_patches(memory_bank.outputs(body, samples)[f"embed_{source}"])


def enlarged(maps: np.ndarray) -> np.ndarray:
    return F.interpolate(torch.from_numpy(maps), scale_factor=2, mode="bilinear", align_corners=False).numpy()


def parts(body: Network, banks: dict, samples: np.ndarray) -> dict[str, np.ndarray]:
    """The maps [N, 1, 8, 8] of each part by scikit-learn's distances, before they are normalised."""
    with torch.inference_mode():
        values = body.activations(to_tensor(samples))
    found = {}
    for source, bank in banks.items():
        lines = values[f"embed_{source}"].permute(0, 2, 3, 1).reshape(-1, bank.entries.shape[1]).double().numpy()
        distances = pairwise_distances(lines, bank.entries.double().numpy(), "sqeuclidean")
        near = (distances - bank.expected.double().numpy()).min(1)
        found[source] = enlarged(near.reshape(len(samples), 1, 4, 4))
    return found | ({"mask": values["mask"].double().numpy()} if "mask" in values else {})


@pytest.mark.parametrize("masked", [True, False])
def test_score_is_the_weighted_sum_of_normalised_distances_and_mask(body, banks, masked):
    """Each has mean 0 and the median image score 1 on the validation pictures."""
    network = body if masked else start(body)
    whole, record = memory_bank.with_banks(network, network, banks, VAL, WEIGHTS)
    assert whole.heads == ["score"] and {source: len(bank.entries) for source, bank in banks.items()} == {
        "fine": 16,
        "deep": 40,
    }
    good, new = (parts(network, banks, samples) for samples in (VAL, NEW))
    assert set(record) == set(good) == {"fine", "deep", "mask"} - (set() if masked else {"mask"})
    expected = 0
    for name, maps in good.items():
        scores = [ndimage.uniform_filter(one[0], 3, mode="nearest").max() for one in maps]
        mean, level = maps.mean(), np.median(scores) - maps.mean()
        assert record[name] == pytest.approx({"weight": WEIGHTS[name], "mean": mean, "level": level}, rel=2e-3)
        expected = expected + WEIGHTS[name] * (new[name] - mean) / level
    with torch.inference_mode():
        found = whole(to_tensor(NEW)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert found.std() > 0.1


def test_excess_distances_against_brute_force():
    generator = torch.Generator().manual_seed(0)
    patches, entries = torch.randn(3, 7, 4, 5, generator=generator), torch.randn(11, 7, generator=generator)
    offsets = torch.rand(11, generator=generator) * 9
    found = memory_bank.excess_distance(patches, memory_bank.Bank(entries, offsets))
    assert found.shape == (3, 1, 4, 5)
    for n, y, x in np.ndindex(3, 4, 5):
        expected = min(float(((patches[n, :, y, x] - entries[k]) ** 2).sum() - offsets[k]) for k in range(11))
        assert float(found[n, 0, y, x]) == pytest.approx(expected, abs=1e-4)


def test_parts_come_from_both_banks_and_the_mask(body, banks):
    found, expected = memory_bank.parts(body, banks, NEW), parts(body, banks, NEW)
    assert list(found) == ["fine", "deep", "mask"] and list(memory_bank.parts(start(body), banks, NEW)) == [*SOURCES]
    for source in SOURCES:
        np.testing.assert_allclose(enlarged(found[source].numpy()), expected[source], atol=1e-3)
    np.testing.assert_allclose(found["mask"].numpy(), expected["mask"], atol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_entries_are_near_every_patch(body, banks, source):
    """Closer than as many random patches, which leave the rare ones far away."""
    patches, entries = every(body, TRAIN, source), banks[source].entries
    assert len(torch.unique(entries, dim=0)) == len(entries)
    drawn = patches[torch.randperm(len(patches), generator=torch.Generator().manual_seed(1))[: len(entries)]]
    nearest = [torch.cdist(patches, chosen).min(1).values for chosen in (entries, drawn)]
    assert nearest[0].max() < nearest[1].max()
    assert nearest[0].square().mean() < nearest[1].square().mean()


@pytest.mark.parametrize(("size", "fine", "deep"), [(8, 8, 8), (24, 8, 24), (40, 16, 40), (4096, 192, 192)])
def test_the_fine_bank_has_half_as_many_entries(body, size, fine, deep):
    """In multiples of 8, at least 8, and at most as many as there are patches."""
    found = memory_bank.choose_banks(memory_bank.outputs(body, TRAIN), size, 0)
    assert (len(found["fine"].entries), len(found["deep"].entries)) == (fine, deep)


def test_a_bank_larger_than_the_patches_takes_nearly_all_of_them():
    features = torch.randn(1, 5, 3, 7, generator=torch.Generator().manual_seed(0))
    chosen = memory_bank.choose_bank(features, 1000, 0).entries
    assert chosen.shape == (16, 5) and len(torch.unique(chosen, dim=0)) == 16


def test_of_more_patches_than_are_compared_at_once_the_rare_ones_are_reached(monkeypatch):
    """Part by part: one far cluster of 4 among 1600 patches has an entry, wherever it comes."""
    monkeypatch.setattr(memory_bank, "CANDIDATES", 200)
    for place in (0, 800, 1596):
        lines = torch.randn(1600, 5, generator=torch.Generator().manual_seed(place))
        lines[place : place + 4] += 30
        found = [memory_bank.choose_bank(lines.t().reshape(1, 5, 40, 40), 24, seed).entries for seed in (0, 0, 1)]
        assert found[0].shape == (24, 5) and torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
        reached = torch.cdist(lines, found[0]).min(1).values
        assert reached.max() < 5 and reached[place : place + 4].max() < 5


def test_too_few_patches_for_a_bank_are_named():
    with pytest.raises(UserError, match=r"^7 patches are too few for a memory bank"):
        memory_bank.choose_bank(torch.randn(1, 5, 1, 7), 1000, 0)


def test_centring_changes_no_distance():
    body, images = lively(0.25, seed=1), pictures(10, 64, 4)
    before = {source: every(body, images, source) for source in SOURCES}
    memory_bank.centre(body, images)
    for source, patches in before.items():
        after = every(body, images, source)
        torch.testing.assert_close(after.mean(0), torch.zeros(after.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(F.pdist(after), F.pdist(patches), atol=1e-3, rtol=1e-3)
        assert patches.mean(0).abs().max() > 0.01


def test_body_is_what_was_trained(body, joined):
    again = memory_bank.without_banks(joined[0])
    assert sorted(again.heads) == ["embed_deep", "embed_fine", "mask"]
    assert [n.name for n in again.nodes] == [n.name for n in body.nodes]
    before, after = (memory_bank.outputs(network, NEW) for network in (body, again))
    for source in SOURCES:
        assert torch.equal(before[f"embed_{source}"], after[f"embed_{source}"])
    mask, scaled = before["mask"], after["mask"]
    ratio = (scaled - scaled.mean()) / (mask - mask.mean())
    torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-2, atol=0)


def test_banks_on_a_body_that_had_some_give_the_same_student(body, banks, joined):
    """Compression takes the banks off and puts others on: the mask that was scaled is scaled again."""
    again, record = memory_bank.with_banks(
        memory_bank.without_banks(joined[0]), memory_bank.without_banks(joined[0]), banks, VAL, WEIGHTS
    )
    torch.testing.assert_close(again(smooth(3, 64)), joined[0](smooth(3, 64)), atol=1e-3, rtol=1e-3)
    assert record["fine"] == pytest.approx(joined[1]["fine"])


def test_a_body_without_a_mask_stays_without(body, banks):
    whole, _ = memory_bank.with_banks(start(body), start(body), banks, VAL, WEIGHTS)
    again = memory_bank.without_banks(whole)
    assert again.heads == ["embed_fine", "embed_deep"] and "neck" not in again.ops
    assert whole(smooth(2, 64)).shape == (2, 1, 8, 8)


def test_outputs_of_the_quantized_form_have_the_names_of_the_network(body):
    """In batches of 16: the last is smaller."""
    samples = pictures(18, 64, 5)
    quantized = QuantNetwork.calibrated(fold(body), to_tensor(samples))
    found, exact = memory_bank.outputs(quantized, samples), memory_bank.outputs(body, samples)
    assert list(found) == list(exact) == body.heads
    for name, values in found.items():
        assert values.shape == exact[name].shape and not values.is_inference()
        assert np.corrcoef(values.flatten(), exact[name].flatten())[0, 1] > 0.9, name
        assert not torch.equal(values, exact[name])


def test_learned_ranges_of_the_body_are_kept(joined):
    folded = fold(joined[0])
    learned = QuantNetwork(memory_bank.without_banks(folded))
    for number, quant in enumerate(learned.quant.values()):
        quant.range.copy_(torch.tensor([-1.0 - number, 2.0 + number]))
    found = QuantNetwork.calibrated(folded, to_tensor(pictures(4, 64, 5)), learned)
    for name, quant in learned.quant.items():
        assert found.quant[name].range.tolist() == quant.range.tolist()
    with torch.inference_mode():
        values = folded.activations(to_tensor(pictures(4, 64, 5)))
    for source in SOURCES:
        near, bank = values[f"nearest_{source}"], found.quant[f"bank_{source}"]
        assert found.quantizer(f"nearest_{source}") is bank
        assert bank.range.tolist() == pytest.approx([float(near.min()), float(near.max())], rel=1e-4)


def test_a_mask_that_was_rescaled_for_the_score_gets_a_range_of_its_own(body, joined):
    learned = QuantNetwork.calibrated(fold(body), to_tensor(pictures(4, 64, 6)))
    found = QuantNetwork.calibrated(fold(joined[0]), to_tensor(pictures(4, 64, 5)), learned)
    with torch.inference_mode():
        mask = fold(joined[0]).activations(to_tensor(pictures(4, 64, 5)))["mask"]
    assert found.quant["mask"].range.tolist() == pytest.approx([float(mask.min()), float(mask.max())], rel=1e-4)
    assert found.quant["mask"].range.tolist() != pytest.approx(learned.quant["mask"].range.tolist(), rel=0.1)
    for source in SOURCES:
        assert found.quant[f"embed_{source}"].range.tolist() == learned.quant[f"embed_{source}"].range.tolist()
