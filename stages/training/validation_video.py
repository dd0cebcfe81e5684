"""Synthetic defects of clips for validation: other families than those of training (video_defects.py).

Here a region's own frames are played in another way, or something drawn passes. Which seams a paste has, a student may
have learned; of what a region does here it knows none. All ranges are choices.
"""

import cv2
import numpy as np

from stages.training.video_defects import CHANGED, lively, outline, path, shifted, usual_speed

LEAST = 12  # pixels that must have changed
TRIES = 30


def replayed(rng: np.random.Generator, sample: np.ndarray, order: np.ndarray) -> np.ndarray:
    """A sample in one region of which its own frames [T] come in another order."""
    size = len(sample)
    cover = np.clip(shifted(outline(rng, size), lively(rng, sample) - (size - 1) / 2) * 1.5, 0, 1)[..., None]
    return np.clip(sample * (1 - cover) + sample[:, :, order] * cover + 0.5, 0, 255).astype(np.uint8)


def hurry(rng: np.random.Generator, sample: np.ndarray, speed: float) -> np.ndarray:
    """A region in which time runs two or three times as fast until now."""
    last = sample.shape[2] - 1
    back = np.arange(last, -1, -1) * int(rng.integers(2, 4))
    return replayed(rng, sample, np.maximum(last - back, 0))


def stumble(rng: np.random.Generator, sample: np.ndarray, speed: float) -> np.ndarray:
    """A region whose frames come in a random order."""
    return replayed(rng, sample, rng.permutation(sample.shape[2]))


def intruder(rng: np.random.Generator, sample: np.ndarray, speed: float) -> np.ndarray:
    """A shaded triangle or quadrangle that passes fast and grows or shrinks a little."""
    frames, size = sample.shape[2], len(sample)
    end = rng.uniform(0.15, 0.85, 2) * size
    places = path(rng, frames, end, speed * rng.uniform(2, 5))
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 5))))
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.03, 0.08, 2) * size
    level, slope, growth = rng.uniform(20, 235), rng.uniform(-60, 60), rng.uniform(-0.02, 0.02)
    surface = level + slope * np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    found = sample.copy()
    for t, place in enumerate(places):
        mask = np.zeros((size, size), np.uint8)
        shape = place + corners * (1 + growth * (t - frames + 1))
        cv2.fillPoly(mask, [np.round(shape * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        cover = mask.astype(np.float32) / 255
        found[:, :, t] = np.clip(found[:, :, t] * (1 - cover) + surface * cover + 0.5, 0, 255).astype(np.uint8)
    return found


FAMILIES = {family.__name__: family for family in (hurry, stumble, intruder)}


def validation_videos(samples: np.ndarray, seed: int, count: int) -> dict[str, np.ndarray]:
    """Samples uint8 [N, S, S, T] with one defect each, made of the good ones; by family, `count` of each."""
    found, speed = {}, usual_speed(samples)
    for number, (name, family) in enumerate(FAMILIES.items()):
        order = np.random.default_rng([seed, number]).permutation(len(samples))
        made = []
        for i in range(count):
            rng = np.random.default_rng([seed, number, i])
            for k in range(TRIES):  # where nothing moves, another order of the frames shows nothing
                sample = samples[order[(i + k * count) % len(order)]]
                changed = family(rng, sample, speed)
                away = np.abs(changed.astype(np.int16) - sample).max(axis=2) > CHANGED
                if away.sum() >= LEAST:
                    break
            else:
                changed = intruder(rng, sample, speed)
            made.append(changed)
        found[name] = np.stack(made)
    return found
