"""Clips of a walkway drawn from noise: people walk in one direction; three kinds of anomalies, with pixel masks.

fast: a walker at three to four times the usual speed. against: one who walks the other way. object: a cart, which
glides at the speed of the walkers. Light and position change from clip to clip, so that no frame alone tells what is
fast or against the stream. Every length is a fraction of the side; the ranges are choices.
"""

from pathlib import Path

import cv2
import numpy as np

from stages.common.progress import track
from stages.fetch import clip, hashes
from stages.fetch.picture import Picture
from stages.fetch.sources.synthetic import write_png

ANOMALIES = ("against", "fast", "object")
KINDS = ("train", "good", *ANOMALIES)
SPEED = (0.008, 0.014)  # of a walker, in sides a frame: 1 to 1.8 px at the default size of 128
FAST = (3.0, 4.0)  # times the usual speed
STRIDE = 0.06  # way of a full swing of the legs
GRAIN = 2.0  # of the camera, in grey levels
VISIBLE = 0.3  # an anomaly counts from this share of its pixels


def load(data, work: Path) -> list[Picture]:
    """Draws the clips of `data.synthetic_clips` into `work`, of frames of `data.synthetic.size`."""
    wanted, size = data.synthetic_clips, data.synthetic.size
    counts = {"train": wanted.train, "good": wanted.test_good} | dict.fromkeys(ANOMALIES, wanted.test_per_anomaly)
    found = []
    for kind, index in track([(k, i) for k in KINDS for i in range(counts[k])], "synthetic clips"):
        name, files, masks = f"{kind}_{index:03d}", [], {}
        for place, (picture, mask) in enumerate(draw(size, kind, index, data.seed, wanted.frames)):
            files.append(work / name / f"{place:04d}.png")
            write_png(files[-1], picture)
            if mask.any():
                masks[place] = work / "masks" / name / f"{place:04d}.png"
                write_png(masks[place], mask * np.uint8(255))
        found += clip.pictures(name, files, "train" if kind == "train" else "test", dict.fromkeys(masks, kind), masks)
    hashes.verify_pictures(work, found, data.hashes)
    return found


def draw(size: int, kind: str, index: int, seed: int, frames: int):
    """Yields every frame of a clip and the mask of its anomaly: uint8 and bool [size, size]."""
    rng = np.random.default_rng([seed, KINDS.index(kind), index])
    scene = _scene(np.random.default_rng([seed, len(KINDS)]), size)  # one camera
    light = rng.uniform(-18, 18)
    walkers = [_walker(rng, "walker", rng.uniform(-0.3, 1.0)) for _ in range(int(rng.integers(3, 6)))]
    odd = None
    if kind in ANOMALIES:  # it comes in during the second quarter of the clip, so that the first frames are normal
        odd = _walker(rng, kind, 0.0)
        enters = rng.uniform(0.25, 0.4) * frames
        edge = 1.1 if odd["speed"] < 0 else -0.1
        odd["start"] = edge - odd["speed"] * enters
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size
    for t in range(frames):
        picture, mask = scene.copy(), np.zeros((size, size), bool)
        for walker in sorted([*walkers, *([odd] if odd else [])], key=lambda one: one["foot"]):  # the near ones last
            shape, place = _shape(walker, x, y, t)
            picture += (walker["grey"] + 8 * np.sin(40 * (y - walker["foot"]) + walker["phase"]) - picture) * shape
            mask &= shape < 0.5
            if walker is odd and -0.06 < place < 1.06:
                whole = _area(walker) * size * size
                mask |= (shape >= 0.5) if (shape >= 0.5).sum() >= VISIBLE * whole else False
        noise = GRAIN * rng.standard_normal(picture.shape)
        yield np.clip(np.rint(picture + light + noise), 0, 255).astype(np.uint8), mask


def _scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """A paved walkway with lawn above and below it, float32 [size, size]."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), size / 64)
    y = (np.arange(size, dtype=np.float32)[:, None] + 0.5) / size
    lawn = (y < 0.25) | (y > 0.95)
    joints = (np.floor(y * 16) % 2) * 6 + (np.floor((np.arange(size) + 0.5) / size * 16) % 2) * 6
    return np.where(lawn, 95, 140 + joints).astype(np.float32) + 10 * noise / noise.std()


def _walker(rng: np.random.Generator, kind: str, start: float) -> dict:
    """One who walks, or what moves instead of one: `start` is the place at the first frame, `foot` the height."""
    speed = rng.uniform(*SPEED)
    speed *= rng.uniform(*FAST) if kind == "fast" else -1 if kind == "against" else 1
    grey = 140 + rng.choice([-1, 1]) * rng.uniform(45, 80)
    found = {"kind": kind, "speed": speed, "start": start, "foot": rng.uniform(0.45, 0.92), "grey": grey}
    return found | {"height": rng.uniform(0.15, 0.2), "phase": rng.uniform(0, 2 * np.pi)}


def _area(walker: dict) -> float:
    """About how much of the picture its shape covers."""
    return walker["height"] ** 2 * (0.7 if walker["kind"] == "object" else 0.16)


def _shape(walker: dict, x: np.ndarray, y: np.ndarray, t: int) -> tuple[np.ndarray, float]:
    """Its soft silhouette float32 [size, size] in 0..1 at frame t, and its place. A walker comes in again from the
    other side; an anomaly passes once."""
    place = walker["start"] + walker["speed"] * t
    if walker["kind"] == "walker":
        place = (place + 0.15) % 1.3 - 0.15
    height, foot, soft = walker["height"], walker["foot"], 1 / x.shape[0]

    def inside(distance):
        return np.clip(0.5 - distance / soft, 0, 1)

    if walker["kind"] == "object":  # a box on two wheels
        box = np.maximum(np.abs(x - place) - 0.55 * height, np.abs(y - foot + 0.4 * height) - 0.3 * height)
        wheels = [np.hypot(x - place - s * 0.35 * height, y - foot + 0.08 * height) - 0.1 * height for s in (-1, 1)]
        return inside(np.minimum.reduce([box, *wheels])), place
    torso = (np.hypot((x - place) / (0.1 * height), (y - foot + 0.6 * height) / (0.24 * height)) - 1) * 0.1 * height
    head = np.hypot(x - place, y - foot + 0.92 * height) - 0.075 * height
    swing = np.sin(2 * np.pi * walker["speed"] * t / STRIDE + walker["phase"])
    legs = []
    for side in (-1, 1):
        down = np.clip((y - foot + 0.42 * height) / (0.42 * height), 0, 1)
        across = np.abs(x - place - side * swing * 0.16 * height * down) - 0.045 * height
        legs.append(np.maximum(across, np.abs(y - foot + 0.21 * height) - 0.21 * height))
    return inside(np.minimum.reduce([torso, head, *legs])), place
