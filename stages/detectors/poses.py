"""Poses: which transformations the training pictures themselves show, and copies of the pictures so transformed.

Objects that lie in any pose (screws, nuts) look different in each, and a few training pictures don't hold all of them.
Whether a transformation gives just another good picture is asked of the set: good pictures are held out, and the banks
of others score them as they are and transformed. It is shown where the two can't be told apart: an equivalence test,
since a test for a difference would find none in few pictures. Nothing but training pictures is seen.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from stages.common.dataset import evenly
from stages.detectors import memory_bank, score_fusion
from stages.detectors.base import Run
from stages.graph.network import Network
from stages.training.synthetic_defects import channelwise

HELD, LEAST = 100, 20  # most pictures that are held out, and fewest that say anything: choices
OTHERS, BANK = 150, 1024  # pictures whose patches score them, entries of their deep bank: choices, bound time
MARGIN = 0.1  # by which the AUROC of transformed against untransformed pictures may differ from 0.5: a choice
QUANTILE = 1.645  # of the normal distribution: two one-sided tests at 5 %, which is a 90 % interval
COPIES, MOST = 3, 1000  # copies of each training picture, and of all of them: choices, bound time


def turned(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sample [H, W, C], turned about its centre by an angle drawn from all; its border is repeated outwards."""
    height, width = sample.shape[:2]
    move = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(0, 360), 1)
    return channelwise(
        lambda part: cv2.warpAffine(part, move, (width, height), borderMode=cv2.BORDER_REPLICATE), sample
    )


TABLE: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "mirrored": lambda sample, _: sample[:, ::-1],
    "upside down": lambda sample, _: sample[::-1],
    "turned by 180": lambda sample, _: sample[::-1, ::-1],
    "turned by 90": lambda sample, _: np.rot90(sample),
    "turned by 270": lambda sample, _: np.rot90(sample, 3),
    "turned by any angle": turned,
}
SQUARE = {"turned by 90", "turned by 270"}  # these need a square sample


def transformed(name: str, samples: np.ndarray, seed: int) -> np.ndarray:
    """The samples uint8 [N, H, W, C] under one transformation of the table; an angle is drawn for each."""
    rngs = (np.random.default_rng([seed, i]) for i in range(len(samples)))
    return np.stack([TABLE[name](sample, rng) for sample, rng in zip(samples, rngs, strict=True)])


def separation(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The AUROC of the scores `after` against `before`, each [N], and its standard error.

    N pictures are seen twice, so that the two are correlated: a picture's share in the AUROC, before and after, is one
    observation (Obuchowski, Biometrics 1997, with one pair in each cluster).
    """

    def exceeded(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        return ((these[:, None] > those) + 0.5 * (these[:, None] == those)).mean(1)

    own = exceeded(after, before)
    shares = own + 1 - exceeded(before, after)
    return float(own.mean()), float(shares.std(ddof=1) / len(before) ** 0.5)


def shown(body: Network, train: np.ndarray, run: Run) -> dict[str, dict[str, Any]]:
    """What the training samples say of each transformation: the AUROC by which pictures that are held out and
    transformed can be told from those as they are, its 90 % interval, and whether all of that is within MARGIN of 0.5.

    Half of the held-out pictures meet the banks of other pictures, the other half too, and those of the first half. An
    empty answer: too few pictures. body: a student without memory banks; it stays as it is.
    """
    held = np.array(evenly(range(len(train)), HELD))
    if len(held) < LEAST:
        return {}
    square = train.shape[1] == train.shape[2]
    names = [name for name in TABLE if square or name not in SQUARE]
    before, after = np.zeros(len(held)), {name: np.zeros(len(held)) for name in names}
    variants = {name: transformed(name, train[held], run.seed) for name in names}
    for first in (0, 1):
        own = held[first::2]
        others = evenly([i for i in range(len(train)) if i not in set(own)], OTHERS)
        banks = memory_bank.choose_banks(memory_bank.outputs(body, train[others]), BANK, run.seed)
        maps = distances(body, banks, train[own])
        scale, size = score_fusion.normalisation(maps), score_fusion.map_size(maps)

        def scores(maps: score_fusion.Parts, scale=scale, size=size) -> np.ndarray:
            both = (score_fusion.resized((maps[k] - v["mean"]) / v["level"], size) for k, v in scale.items())
            return score_fusion.image_scores(sum(both), size).numpy()

        before[first::2] = scores(maps)
        for name in names:
            after[name][first::2] = scores(distances(body, banks, variants[name][first::2]))
    found = {name: verdict(*separation(before, values)) for name, values in after.items()}
    poses = ", ".join(name for name, values in found.items() if values["shown"])
    print(f"{run.stage}: poses that the training pictures show beside their own: {poses or 'none'}")
    return found


def distances(body: Network, banks: dict[str, memory_bank.Bank], samples: np.ndarray) -> score_fusion.Parts:
    """The excess distance to each bank, without a mask."""
    return {k: v for k, v in memory_bank.parts(body, banks, samples).items() if k in banks}


def verdict(auroc: float, error: float) -> dict[str, Any]:
    low, high = auroc - QUANTILE * error, auroc + QUANTILE * error
    return {"auroc": auroc, "low": low, "high": high, "shown": low > 0.5 - MARGIN and high < 0.5 + MARGIN}


def joined(train: np.ndarray, record: dict, seed: int) -> np.ndarray:
    """The training samples, followed by copies in the poses that they show, in turns; themselves where they show none.

    record: a student's, whose `poses` are what `shown` found.
    """
    names = [name for name, values in record.get("poses", {}).items() if values["shown"]]
    if not names:
        return train
    count = min(COPIES * len(train), MOST)
    copies = np.empty((count, *train.shape[1:]), np.uint8)
    for i in range(count):
        place, time = i % len(train), i // len(train)
        name, rng = names[(place + time) % len(names)], np.random.default_rng([seed, 1, i])
        copies[i] = TABLE[name](train[place], rng)
    return np.concatenate([train, copies])
