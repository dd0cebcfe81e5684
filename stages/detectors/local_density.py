"""Local density: how far from a memory bank a good patch is to be expected where it lies.

The distance to the nearest entry says little where good patches are rare and far apart, and much where they are dense.
The local outlier factor (LOF; Breunig et al., SIGMOD 2000) divides by the distance that neighbours have among each
other; here it is subtracted, which costs nothing on the device: the bias of a bank's convolution holds it.
"""

import torch

from stages.detectors.coreset import nearest

SAMPLE = 30_000  # patches whose neighbours are sought: a choice, bounds time
PRIOR = 2.0  # patches that the mean of all counts for, where an entry has few: a choice


def to_other_pictures(patches: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Squared distance [N] of each patch [N, D] to the nearest one of another picture; infinite where there is none.

    pictures: int [N], ascending, the picture of each. Patches of one picture overlap and are alike, as those of a new
    one will not be.
    """
    norms, found = patches.square().sum(1), torch.full((len(patches),), torch.inf)
    end = 0
    for count in pictures.unique_consecutive(return_counts=True)[1].tolist():
        start, end = end, end + count
        distances = norms - 2 * patches[start:end] @ patches.t()
        distances[:, start:end] = torch.inf
        found[start:end] = (distances.amin(1) + norms[start:end]).clamp(min=0)
    return found


def expected_distances(patches: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Squared distance [K] that a good patch has to be expected at, for each entry of a bank [K, D] to which it is
    nearest; from the training patches [N, D, h, w].

    Each of SAMPLE patches, evenly drawn, is as far as the nearest patch of another picture, but no nearer than the
    entry. Their mean per entry is drawn to that of all by PRIOR.
    """
    n, _, h, w = patches.shape
    drawn = torch.arange(min(SAMPLE, n * h * w)) * (n * h * w) // min(SAMPLE, n * h * w)
    pictures, places = drawn // (h * w), drawn % (h * w)
    sample = patches.flatten(2)[pictures, :, places]
    distances, index = nearest(sample, bank)
    others = to_other_pictures(sample, pictures)
    distances = torch.where(others.isfinite(), torch.maximum(others, distances), distances)
    total = torch.zeros(len(bank)).index_add_(0, index, distances) + PRIOR * distances.mean()
    return total / (torch.bincount(index, minlength=len(bank)) + PRIOR)
