"""Photographs with known faces, varied in size, turn, light, noise and sharpness.

Run as a script, with the folder of real images and weights, it prints how many of the faces get hidden and what a
frame costs; with `--second [VARIANT ...]` it prints how many of the hidden faces a second detector, OpenCV 4's Haar
cascades, finds before and after."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from edge.app.privacy import MODES, FaceFinder, Guard
from edge.preprocess import read_image

FACES = {  # looked at: x, y, width, height in pixels
    "face.jpg": [(131, 83, 90, 122), (257, 48, 92, 119), (440, 118, 50, 64), (5, 101, 43, 58)],
    "grace_hopper.bmp": [(177, 122, 179, 209)],
}
NO_FACE = ("parrot.jpg", "sunflower.bmp")
VARIANTS = {
    "as it is": {},
    "half size": {"scale": 0.5},
    "quarter size": {"scale": 0.25},
    "double size": {"scale": 2},
    "mirrored": {"mirror": True},
    "turned 15 degrees left": {"angle": 15},
    "turned 15 degrees right": {"angle": -15},
    "turned 30 degrees": {"angle": 30},
    "dark (a quarter of the light)": {"light": 0.25},
    "overexposed (twice the light)": {"light": 2},
    "noise of 25 grey values": {"noise": 25},
    "out of focus (sigma 3 px)": {"sigma": 3},
}


def model(assets: Path) -> Path:
    """The YuNet file among the assets."""
    return next((assets / "weights" / "yunet").glob("*.onnx"))


def variants(assets: Path):
    """Yields (variant, picture, faces float [N, 4]); a turned face keeps the upright box around its turned one."""
    for file, boxes in FACES.items():
        image = read_image(assets / "data" / "photos" / file)
        for name, how in VARIANTS.items():
            yield name, *vary(image, np.array(boxes, float), **how)


def vary(image, boxes, scale=1.0, angle=0.0, mirror=False, light=1.0, noise=0.0, sigma=0.0):
    """The picture and its boxes after one change."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:, 2] += (scale - 1) * width / 2, (scale - 1) * height / 2
    if mirror:
        turn = turn @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]])
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    moved = cv2.resize(image, size, interpolation=how) if scale != 1 else cv2.warpAffine(image, turn, size)
    corners = np.array([[(x, y), (x + w, y), (x, y + h), (x + w, y + h)] for x, y, w, h in boxes])
    corners = corners @ turn[:, :2].T + turn[:, 2]
    low, high = np.maximum(corners.min(1), 0), np.minimum(corners.max(1), size)
    value = moved.astype(np.float32) * light + noise * np.random.default_rng(0).standard_normal(moved.shape)
    moved = np.clip(value, 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(moved, (0, 0), sigma) if sigma else moved, np.hstack([low, high - low])


def hidden(image, faces, guard: Guard) -> list[bool]:
    """Whether each face was hidden: nine tenths of the middle of its box lie in what the guard painted black."""
    painted = (guard(np.maximum(image, 1)) == 0).all(2)
    covered = []
    for x, y, w, h in faces:
        middle = painted[round(y + h / 8) : round(y + h * 7 / 8), round(x + w / 8) : round(x + w * 7 / 8)]
        covered.append(bool(middle.mean() >= 0.9))
    return covered


def cascades() -> list:
    """OpenCV 4's frontal face cascades (OpenCV 5 has none)."""
    names = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml")
    return [cv2.CascadeClassifier(cv2.data.haarcascades + name) for name in names]


def found_again(image, faces, detectors) -> list[bool]:
    """Whether any detector sees each face: a box whose overlap (IoU) with it is at least 0.3."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    boxes = [b for d in detectors for b in d.detectMultiScale(grey, 1.05, 3)]
    return [any(overlap(face, box) >= 0.3 for box in boxes) for face in faces]


def overlap(a, b) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0, w) * max(0, h)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def second(assets: Path, names) -> dict:
    """Faces that the second detector finds among the hidden ones of these variants, before and after each mode."""
    find, detectors = FaceFinder(model(assets)), cascades()
    counts = Counter(dict.fromkeys(MODES, 0))
    for name, image, faces in variants(assets):
        if name not in names:
            continue
        kept = [f for f, done in zip(faces, hidden(image, faces, Guard("fill", find))) if done]  # noqa: B905
        counts["hidden faces"] += len(kept)
        counts["before"] += sum(found_again(image, kept, detectors))
        for mode in MODES:
            counts[mode] += sum(found_again(Guard(mode, find)(image.copy()), kept, detectors))
    return dict(counts)


def recall(assets: Path) -> dict[str, list[bool]]:
    """For each variant, whether each face was hidden."""
    guard, result = Guard("fill", FaceFinder(model(assets))), {}
    for name, image, faces in variants(assets):
        result[name] = result.get(name, []) + hidden(image, faces, guard)
    return result


def main() -> None:
    assets = Path(sys.argv[1])
    if "--second" in sys.argv:
        print(json.dumps(second(assets, sys.argv[3:] or list(VARIANTS))))
        return
    result = recall(assets)
    for name, done in result.items():
        print(f"{name:<32} {sum(done)} of {len(done)}")
    print(f"{'all':<32} {sum(map(sum, result.values()))} of {sum(map(len, result.values()))}")
    find = FaceFinder(model(assets))
    for file in (*FACES, *NO_FACE):
        image = read_image(assets / "data" / "photos" / file)
        times = []
        for _ in range(20):
            copy = image.copy()
            start = perf_counter()
            Guard("blur", find)(copy)
            times.append(1000 * (perf_counter() - start))
        print(f"{file:<20} {image.shape[1]} x {image.shape[0]}: {len(find(image))} boxes, {np.median(times):.1f} ms")


if __name__ == "__main__":
    main()
