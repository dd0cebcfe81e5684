"""Synthetic defects of clips: what moves at another speed, jumps, stutters, or is foreign.

They show in the motion of a region, not in one frame. So that a network can't find the seam of the paste instead, as
many pieces are pasted that move as things usually do, and count as good; still pictures count as good too. A defect is
where the last frame shows it. The ranges are choices; what they look like is drawn by distill.
"""

import cv2
import numpy as np

FAST = (1.7, 6.0)  # speed of a defect, times the usual one
USUAL = (0.0, 1.0)  # of a decoy
STILL, DECOY = 0.06, 0.35  # how often a sample stands still, or has a decoy
SLOWEST = 0.002  # the usual speed is at least this, in sides a frame: where nothing moves, what does is fast
CHANGED = 6  # grey levels by which a pixel must differ to count
PROBED = 24  # samples that the usual speed is measured on


def usual_speed(samples: np.ndarray) -> float:
    """How fast things move in good samples uint8 [N, S, S, T], in pixels from one frame of a sample to the next: of the
    pixels that move at all, the 95 % quantile of the optical flow (DIS, Kroeger et al., ECCV 2016)."""
    size = samples.shape[1]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    found = []
    for sample in samples[:: max(1, len(samples) // PROBED)]:
        before, now = (np.ascontiguousarray(sample[:, :, i]) for i in (-2, -1))
        speed = np.linalg.norm(flow.calc(before, now, None), axis=2)
        found.append(speed[cv2.absdiff(before, now) > CHANGED])
    moving = np.concatenate(found)
    return max(float(np.quantile(moving, 0.95)) if moving.size else 0.0, SLOWEST * size)


def outline(rng: np.random.Generator, size: int) -> np.ndarray:
    """The soft shape of a piece, float32 [size, size] in 0..1, in the middle: upright as people are, or wide."""
    across, up = np.exp(rng.uniform(np.log(0.02), np.log(0.09), 2)) * size
    y, x = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    power = rng.choice([2.0, 6.0])  # an ellipse, or nearly a box
    reach = (np.abs(x / across) ** power + np.abs(y / up) ** power) ** (1 / power)
    return np.clip((1 - reach) * min(across, up) + 0.5, 0, 1)


def lively(rng: np.random.Generator, sample: np.ndarray) -> np.ndarray:
    """A place (x, y) of a sample, mostly one where something moves."""
    size = sample.shape[0]
    change = cv2.blur(cv2.absdiff(sample[:, :, 0], sample[:, :, -1]).astype(np.float32), (9, 9))
    weight = np.maximum(change - CHANGED, 0).ravel()
    if rng.random() < 0.2 or not weight.any():
        return rng.uniform(0.1, 0.9, 2) * size
    place = np.searchsorted(np.cumsum(weight), rng.random() * weight.sum())
    return np.array([place % size, place // size], np.float64).clip(0, size - 1)


def shifted(picture: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A picture [S, S] moved by (x, y) pixels, its border repeated."""
    matrix = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    return cv2.warpAffine(picture, matrix, picture.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def paste(sample: np.ndarray, pieces: list[np.ndarray], shape: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A sample uint8 [S, S, T] with pieces float32 [S, S] in frame after frame, whose middle comes to `places` [T, 2];
    shape: how much of the piece covers what is below. Returns the shape in the last frame as bool [S, S]."""
    middle = (sample.shape[0] - 1) / 2
    for t, (piece, place) in enumerate(zip(pieces, places, strict=True)):
        cover = shifted(shape, place - middle)
        moved = shifted(piece, place - middle)
        sample[:, :, t] = np.clip(sample[:, :, t] * (1 - cover) + moved * cover + 0.5, 0, 255).astype(np.uint8)
    return cover > 0.5


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A foreign surface float32 [S, S]: speckle or stripes around one grey level."""
    level = rng.uniform(20, 235)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), rng.uniform(0.6, 4))
    if rng.random() < 0.4:
        y, x = np.mgrid[:size, :size]
        turn, period = rng.uniform(0, np.pi), rng.uniform(3, 14)
        noise = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period).astype(np.float32)
    return np.clip(level + noise / (noise.std() + 1e-6) * rng.uniform(3, 45), 0, 255).astype(np.float32)


def path(rng: np.random.Generator, frames: int, end: np.ndarray, speed: float) -> np.ndarray:
    """Places [T, 2] on a straight line, which lead to `end` with `speed` pixels a frame; mostly along the ground."""
    heading = rng.choice([0, np.pi]) + rng.normal(0, 0.5) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    back = np.arange(frames - 1, -1, -1)[:, None]
    return end - back * speed * np.array([np.cos(heading), np.sin(heading)])


def cut(rng: np.random.Generator, donor: np.ndarray) -> np.ndarray:
    """What is at a lively place of a donor's last frame, brought to the middle: float32 [S, S]."""
    middle = (donor.shape[0] - 1) / 2
    return shifted(donor[:, :, -1].astype(np.float32), middle - lively(rng, donor))


def mover(rng, sample, donor, speed) -> np.ndarray:
    """A piece of a donor at another speed than the usual one."""
    frames, fast = sample.shape[2], speed * np.exp(rng.uniform(*np.log(FAST)))
    end = lively(rng, sample) if rng.random() < 0.5 else rng.uniform(0.1, 0.9, 2) * sample.shape[0]
    return paste(sample, [cut(rng, donor)] * frames, outline(rng, len(sample)), path(rng, frames, end, fast))


def foreign(rng, sample, donor, speed) -> np.ndarray:
    """A foreign thing that moves, fast or not."""
    frames = sample.shape[2]
    places = path(rng, frames, rng.uniform(0.1, 0.9, 2) * len(sample), speed * rng.uniform(0.3, 4))
    return paste(sample, [texture(rng, len(sample))] * frames, outline(rng, len(sample)), places)


def jump(rng, sample, donor, speed) -> np.ndarray:
    """A piece of a donor that rests, then jumps to another place or appears out of nothing."""
    frames, end = sample.shape[2], rng.uniform(0.1, 0.9, 2) * len(sample)
    start = end + rng.normal(0, 1, 2) * max(6 * speed, 0.04 * len(sample))
    if rng.random() < 0.4:
        start = np.full(2, -9.0 * len(sample))
    at = int(rng.integers(1, frames))
    places = np.where(np.arange(frames)[:, None] < at, start, end)
    return paste(sample, [cut(rng, donor)] * frames, outline(rng, len(sample)), places)


def stutter(rng, sample, donor, speed) -> np.ndarray:
    """A region in which time stands still, then catches up at once."""
    frames, size = sample.shape[2], len(sample)
    until = int(rng.integers(frames // 2, frames))  # the first frames up to here are all the first one
    cover = np.clip(shifted(outline(rng, size), lively(rng, sample) - (size - 1) / 2) * 1.5, 0, 1)[..., None]
    order = np.where(np.arange(frames) < until, 0, np.arange(frames))
    before = sample.copy()
    sample[:] = np.clip(before * (1 - cover) + before[:, :, order] * cover + 0.5, 0, 255).astype(np.uint8)
    changed = cv2.absdiff(before[:, :, until - 1], before[:, :, 0])
    return (cover[..., 0] > 0.5) & (cv2.blur(changed, (5, 5)) > CHANGED)


DEFECTS = {mover: 0.5, foreign: 0.25, jump: 0.15, stutter: 0.1}  # how often each is drawn


def decoy(rng: np.random.Generator, sample: np.ndarray, donor: np.ndarray, speed: float) -> None:
    """Pastes, in place, what is good: what moves in a donor as it does there, or a piece of it at a usual speed."""
    frames, size = sample.shape[2], len(sample)
    shape = outline(rng, size)
    if rng.random() < 0.5:
        place, middle = lively(rng, donor), (size - 1) / 2
        pieces = [shifted(donor[:, :, t].astype(np.float32), middle - place) for t in range(frames)]
        paste(sample, pieces, shape, np.repeat(place[None], frames, 0))
        return
    places = path(rng, frames, rng.uniform(0.1, 0.9, 2) * size, speed * rng.uniform(*USUAL))
    paste(sample, [cut(rng, donor)] * frames, shape, places)


def add_video_defect(rng: np.random.Generator, sample: np.ndarray, donor: np.ndarray, speed: float):
    """A sample uint8 [S, S, T] with one defect in its motion, and where its last frame shows it, bool [S, S]."""
    kinds, chances = list(DEFECTS), list(DEFECTS.values())
    for _ in range(20):
        changed = sample.copy()
        mask = kinds[rng.choice(len(kinds), p=chances)](rng, changed, donor, speed)
        mask &= (np.abs(changed.astype(np.int16) - sample) > CHANGED).any(axis=2)
        if mask.sum() >= 8:  # a stutter of what rests shows nothing
            return changed, cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    return sample, np.zeros(sample.shape[:2], bool)


def add_good(rng: np.random.Generator, sample: np.ndarray, donor: np.ndarray, speed: float) -> np.ndarray:
    """A good sample made of good ones: mostly as it is, with a decoy, or standing still."""
    if rng.random() < STILL:
        return np.repeat(sample[:, :, -1:], sample.shape[2], axis=2)
    if rng.random() < DECOY:
        sample = sample.copy()
        decoy(rng, sample, donor, speed)
    return sample
