"""The memory bank in the student's graph against PatchCore's distances and scikit-learn; validation's own defects."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from students import lively, pictures, smooth

from edge.errors import UserError
from stages.detectors import memory_bank
from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import flatten_patches, to_tensor
from stages.training import cutpaste

torch.set_num_threads(1)
SHARE = 0.3


@pytest.fixture(scope="module")
def joined() -> tuple[Network, Network, torch.Tensor]:
    """A body, the student that it is part of, and the entries of its bank."""
    body = lively(0.25)
    entries = memory_bank.choose_bank(memory_bank.mask_and_embedding(body, pictures(12, 64, 1))[1], 40, 0)
    return body, memory_bank.with_bank(body, body, entries, pictures(8, 64, 2), SHARE), entries


def test_score_is_the_distance_to_the_nearest_entry_and_the_mask(joined):
    """Against nearest neighbours of scikit-learn; both parts standardised on the validation pictures."""
    body, whole, entries = joined
    assert whole.heads == ["score"] and len(entries) == 40

    def parts(images):
        with torch.inference_mode():
            mask, features = body(to_tensor(images))
        lines = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        nearest = NearestNeighbors(n_neighbors=1).fit(entries.numpy()).kneighbors(lines.numpy())[0] ** 2
        return mask.numpy(), nearest.reshape(len(images), 1, 4, 4)

    good, new = parts(pictures(8, 64, 2)), parts(pictures(5, 64, 3))
    mask, near = ((n - g.mean()) / g.std(ddof=1) for n, g in zip(new, good, strict=True))
    near = F.interpolate(torch.from_numpy(near), scale_factor=2, mode="bilinear", align_corners=False).numpy()
    with torch.inference_mode():
        found = whole(to_tensor(pictures(5, 64, 3))).numpy()
    np.testing.assert_allclose(found, (1 - SHARE) * near + SHARE * mask, atol=2e-3)
    assert found.std() > 0.1


def test_entries_are_near_every_patch(joined):
    """Closer than as many random patches, which leave the rare ones far away."""
    body, _, entries = joined
    every = flatten_patches(memory_bank.mask_and_embedding(body, pictures(12, 64, 1))[1])
    assert len(torch.unique(entries, dim=0)) == len(entries)
    drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(1))[: len(entries)]]
    radius = [float(torch.cdist(every, chosen).min(1).values.max()) for chosen in (entries, drawn)]
    assert radius[0] < radius[1]
    error = [float(torch.cdist(every, chosen).min(1).values.square().mean()) for chosen in (entries, drawn)]
    assert error[0] < error[1]


def test_a_bank_larger_than_the_patches_takes_nearly_all_of_them():
    features = torch.randn(1, 5, 3, 7, generator=torch.Generator().manual_seed(0))
    chosen = memory_bank.choose_bank(features, 1000, 0)
    assert chosen.shape == (16, 5) and len(torch.unique(chosen, dim=0)) == 16


def test_too_few_patches_for_a_bank_are_named():
    with pytest.raises(UserError, match=r"^7 patches are too few for a memory bank"):
        memory_bank.choose_bank(torch.randn(1, 5, 1, 7), 1000, 0)


def test_centring_changes_no_distance():
    body, images = lively(0.25, seed=1), pictures(10, 64, 4)
    before = flatten_patches(memory_bank.mask_and_embedding(body, images)[1])
    memory_bank.centre(body, images)
    after = flatten_patches(memory_bank.mask_and_embedding(body, images)[1])
    torch.testing.assert_close(after.mean(0), torch.zeros(after.shape[1]), atol=1e-4, rtol=0)
    apart = [F.pdist(rows) for rows in (after, before)]
    torch.testing.assert_close(*apart, atol=1e-3, rtol=1e-3)
    assert before.mean(0).abs().max() > 0.01


def test_body_is_what_was_trained(joined):
    body, whole, _ = joined
    again = memory_bank.without_bank(whole)
    assert again.heads == ["mask", "embed"] and [n.name for n in again.nodes] == [n.name for n in body.nodes]
    with torch.inference_mode():
        (mask, features), (scaled, same) = body(smooth(3, 64)), again(smooth(3, 64))
    assert torch.equal(features, same)
    ratio = (scaled - scaled.mean()) / (mask - mask.mean())
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-2, atol=0)


def test_learned_ranges_of_the_body_are_kept(joined):
    _, whole, _ = joined
    folded = fold(whole)
    learned = QuantNetwork(memory_bank.without_bank(folded))
    for number, quant in enumerate(learned.quant.values()):
        quant.range.copy_(torch.tensor([-1.0 - number, 2.0 + number]))
    found = QuantNetwork.calibrated(folded, to_tensor(pictures(4, 64, 5)), learned)
    for name, quant in learned.quant.items():
        assert found.quant[name].range.tolist() == quant.range.tolist()
    with torch.inference_mode():
        nearest = folded.activations(to_tensor(pictures(4, 64, 5)))["nearest"]
    assert found.quantizer("nearest") is found.quant["bank"]
    assert found.quant["bank"].range.tolist() == pytest.approx([float(nearest.min()), float(nearest.max())], rel=1e-4)


def test_a_mask_that_was_rescaled_for_the_score_gets_a_range_of_its_own(joined):
    body, whole, _ = joined
    learned = QuantNetwork.calibrated(fold(body), to_tensor(pictures(4, 64, 6)))
    found = QuantNetwork.calibrated(fold(whole), to_tensor(pictures(4, 64, 5)), learned)
    with torch.inference_mode():
        mask = fold(whole).activations(to_tensor(pictures(4, 64, 5)))["mask"]
    assert found.quant["mask"].range.tolist() == pytest.approx([float(mask.min()), float(mask.max())], rel=1e-4)
    assert found.quant["mask"].range.tolist() != pytest.approx(learned.quant["mask"].range.tolist(), rel=0.1)
    assert found.quant["embed"].range.tolist() == learned.quant["embed"].range.tolist()


def test_cut_paste_changes_one_place_and_repeats():
    good = pictures(4, 96)
    changed = []
    for seed in range(40):
        image = good[seed % 4]
        found = cutpaste.cut_paste(np.random.default_rng(seed), image)
        assert found.shape == image.shape and found.dtype == np.uint8
        assert np.array_equal(found, cutpaste.cut_paste(np.random.default_rng(seed), image))
        ys, xs = np.nonzero((found != image).any(axis=2))
        changed.append(len(ys) / 96**2)
        if len(ys):
            assert (np.ptp(ys) + 1) * (np.ptp(xs) + 1) <= 0.35 * 96**2
    assert 0.002 < np.median(changed) < 0.1 and np.mean(np.array(changed) > 0) > 0.9
    first = cutpaste.validation_defects(good, 3)
    assert np.array_equal(first, cutpaste.validation_defects(good, 3)) and len(first) == cutpaste.DEFECTS
    assert not np.array_equal(first, cutpaste.validation_defects(good, 4))
