"""Region- and track-based detection criteria for video (RBDC, TBDC).

B. Ramachandra, M. Jones, "Street Scene: a new dataset and evaluation protocol for video anomaly detection", WACV 2020.
A detected region is a connected part of the map above a threshold. A true region of a frame is found where its
intersection over union with one detected region is at least BETA; a true track where at least the share ALPHA of its
regions is found. A detected region that has no such overlap with any true region of its frame is a false positive. The
area under the curve of the detection rate over false positives per frame, from 0 to 1, is the figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from stages.common.masks import iou

ALPHA = BETA = 0.1  # the paper's
THRESHOLDS = 40  # of the curve: a choice, quantiles of the scores of frames and of pixels
LINKED = 0.1  # intersection over union of the regions of a track in two frames that follow each other


@dataclass(frozen=True)
class Frame:
    """A map float32 [h, w], and the truth bool of the same size, of one frame of a clip."""

    clip: str
    map: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected regions of a mask, each a bool mask of its own."""
    count, labelled = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labelled == i for i in range(1, count)]


def tracks(frames: Sequence[Frame], truths: Sequence[list[np.ndarray]]) -> list[list[tuple[int, int]]]:
    """The true tracks: regions (frame, number in its `truths`) that follow each other in a clip, each linked to the one
    of the frame before that it overlaps most, where that is LINKED or more."""
    found: list[list[tuple[int, int]]] = []
    before: list[tuple[np.ndarray, int]] = []  # the regions of the frame before and the tracks they are in
    for i, frame in enumerate(frames):
        if i and frame.clip != frames[i - 1].clip:
            before = []
        now: list[tuple[np.ndarray, int]] = []
        taken: set[int] = set()
        for number, region in enumerate(truths[i]):
            free = ((iou(region, other), track) for other, track in before if track not in taken)
            best = max(free, default=(0.0, 0))
            if best[0] >= LINKED:
                track = best[1]
            else:
                track = len(found)
                found.append([])
            taken.add(track)
            found[track].append((i, number))
            now.append((region, track))
        before = now
    return found


def at_threshold(frames: Sequence[Frame], truths, linked: list[list[tuple[int, int]]], threshold: float):
    """Share of true regions and of true tracks that are found, and false positive regions per frame."""
    hit: set[tuple[int, int]] = set()
    regions = false = 0
    for i, frame in enumerate(frames):
        truth, detected = truths[i], components(frame.map > threshold)
        regions += len(truth)
        matched = np.zeros((len(truth), len(detected)), bool)
        for (t, d), _ in np.ndenumerate(matched):
            matched[t, d] = iou(truth[t], detected[d]) >= BETA
        hit |= {(i, number) for number in np.flatnonzero(matched.any(1)).tolist()}
        false += int((~matched.any(0)).sum())
    caught = sum(len(hit & set(track)) >= ALPHA * len(track) for track in linked)
    return (
        len(hit) / regions if regions else 0.0,
        caught / len(linked) if linked else 0.0,
        false / len(frames),
    )


def area(false: np.ndarray, rate: np.ndarray) -> float:
    """The area under the detection rate over false positives per frame up to 1: at each value the best rate so far, as
    the threshold falls; a curve that ends before 1 stays as it is."""
    order = np.argsort(false, kind="stable")
    x, y = false[order], np.maximum.accumulate(rate[order])
    x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    if x[-1] < 1:
        x, y = np.append(x, 1.0), np.append(y, y[-1])
    inside = np.concatenate([x[x <= 1], [1.0]])
    return float(np.trapezoid(np.interp(inside, x, y), inside))


def criteria(frames: Sequence[Frame]) -> dict[str, float | int | None]:
    """RBDC and TBDC over the frames of all clips, in order; None where no pixel is marked."""
    truths = [components(frame.truth) for frame in frames]
    linked = tracks(frames, truths)
    if not linked:
        return {"rbdc": None, "tbdc": None, "regions": 0, "tracks": 0}
    highest = np.array([float(frame.map.max()) for frame in frames])
    pixels = np.concatenate([frame.map.ravel()[:: max(1, frame.map.size // 256)] for frame in frames])
    share = np.linspace(0, 1, THRESHOLDS // 2)
    thresholds = np.unique(np.concatenate([np.quantile(highest, share), np.quantile(pixels, 0.5 + share / 2)]))
    points = np.array([at_threshold(frames, truths, linked, float(value)) for value in thresholds[::-1]])
    return {
        "rbdc": area(points[:, 2], points[:, 0]),
        "tbdc": area(points[:, 2], points[:, 1]),
        "regions": sum(len(track) for track in linked),
        "tracks": len(linked),
    }
