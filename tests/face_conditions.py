"""Faces whose boxes are known by construction, in pictures and clips that are hard for a face finder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from face_variants import FACES, VARIANTS, variants, vary

from edge.preprocess import read_image

SIDES = ("left", "right", "top", "bottom")
DIRECTIONS = (0, 45, 90, 135)  # degrees, of a motion
STEPS = {"slowly (8 pixels a frame)": 8, "fast (40 pixels a frame)": 40}


def photos(assets: Path, files) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for file in files:
        yield read_image(assets / "data" / "photos" / file), np.array(FACES.get(file, []), float).reshape(-1, 4)


def moved(boxes, dx: float, dy: float = 0.0):
    return boxes + np.array([dx, dy, 0, 0])


# single pictures


def cut(image, face, side: str, visible: float):
    """The picture without what lies beyond a line through the face, of which this share stays visible."""
    x, y, w, h = (round(v) for v in face)
    left, top = round(x + w * (1 - visible)), round(y + h * (1 - visible))
    right, bottom = round(x + w * visible), round(y + h * visible)
    if side in ("left", "top"):
        start = (left, 0) if side == "left" else (0, top)
        return image[start[1] :, start[0] :].copy(), moved(face, -start[0], -start[1])
    return (image[:, :right] if side == "right" else image[:bottom]).copy(), face


def motion(image, length: int, degrees: float):
    """Blurred along a line of so many pixels."""
    if length < 2:
        return image
    side = length | 1
    along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]) * (side - 1) / 2
    ends = [tuple(int(v) for v in np.round((side - 1) / 2 + sign * along)) for sign in (-1, 1)]
    line = cv2.line(np.zeros((side, side), np.float32), *ends, 1.0)
    return cv2.filter2D(image, -1, line / line.sum())


def squeezed(image, faces, degrees: float):
    """Narrower by the cosine, as a head that turns."""
    width = max(1, round(image.shape[1] * np.cos(np.radians(degrees))))
    ratio = width / image.shape[1]
    return cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_AREA), faces * (ratio, 1, ratio, 1)


def beside_a_window(image, faces):
    """With a bright area at its left, a third of its width."""
    width = image.shape[1] // 3
    return np.hstack([np.full((len(image), width, 3), 235, np.uint8), image]), moved(faces, width)


def in_full_hd(image, face, width: float):
    """The face alone, with a margin, so wide in a grey frame of 1920 x 1080."""
    scale = width / face[2]
    small, faces = vary(image, face[None], scale=scale)
    x, y, w, h = faces[0]
    left, top = max(0, round(x - 0.4 * w)), max(0, round(y - 0.4 * h))
    crop = small[top : round(y + 1.4 * h), left : round(x + 1.4 * w)][:1080, :1920]
    at_x, at_y = (1920 - crop.shape[1]) // 2, (1080 - crop.shape[0]) // 2
    frame = np.full((1080, 1920, 3), 120, np.uint8)
    frame[at_y : at_y + crop.shape[0], at_x : at_x + crop.shape[1]] = crop
    return frame, moved(faces, at_x - left, at_y - top)


def pictures(assets: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(condition, picture, faces [N, 4]); a face that the border cuts has its whole box."""
    for _, image, faces in variants(assets):
        yield f"size, turn, light, noise and focus ({len(VARIANTS)} variants)", image, faces
    for image, faces in photos(assets, FACES):
        for face in faces:
            for visible in (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.7, 0.9):
                name = f"cut by the border, {'less than half' if visible < 0.5 else 'half or more'} visible"
                for side in SIDES:
                    picture, where = cut(image, face, side, visible)
                    if min(picture.shape[:2]) >= 24:
                        yield name, picture, where[None]
            for width in (30, 24, 20, 16, 12):
                yield f"{width} pixels wide in 1920 x 1080", *in_full_hd(image, face, width)
            for width in (400, 700):
                yield f"{width} pixels wide in 1920 x 1080", *in_full_hd(image, face, width)
        for length in (15, 30, 45, 60):
            for degrees in DIRECTIONS:
                yield f"motion blur of {length} pixels", motion(image, length, degrees), faces
        for light in (0.12, 0.07, 0.04):
            for noise in (0, 2):
                dark = vary(image, faces, light=light, noise=noise)[0]
                yield f"{100 * light:.0f} % of the light", dark, faces
                yield f"{100 * light:.0f} % of the light beside a bright window", *beside_a_window(dark, faces)
        for degrees in (60, 65, 70, 75, 80):
            yield f"squeezed sideways to {degrees} degrees", *squeezed(image, faces, degrees)


# clips


def window(image, background, dx: int, dy: int):
    """What a camera of the picture's size sees when the picture is moved so far over the background."""
    height, width = image.shape[:2]
    frame = background.copy()
    top, left = max(0, dy), max(0, dx)
    bottom, right = min(height, height + dy), min(width, width + dx)
    if top < bottom and left < right:
        frame[top:bottom, left:right] = image[top - dy : bottom - dy, left - dx : right - dx]
    return frame


def walk(image, faces, background, side: str, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The picture comes in from one side, rests a moment and leaves the same way."""
    height, width = image.shape[:2]
    length = width if side in ("left", "right") else height
    way = [*range(length, 0, -step), *[0] * 5, *range(0, length + 1, step)]
    for away in way:
        sign = -1 if side in ("left", "top") else 1
        dx, dy = (sign * away, 0) if side in ("left", "right") else (0, sign * away)
        yield window(image, background, dx, dy), moved(faces, dx, dy)


def clips(assets: Path) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """(condition, the frames and faces of a clip)."""
    sunflower = next(photos(assets, ["sunflower.bmp"]))[0]
    for image, faces in photos(assets, FACES):
        background = cv2.resize(sunflower, image.shape[1::-1])
        for name, step in STEPS.items():
            for side in SIDES:
                yield f"comes in and leaves {name}", list(walk(image, faces, background, side, step))
        for degrees in DIRECTIONS:
            blur = [*[0] * 8, 15, 30, *[45] * 6, 30, 15, *[0] * 8]
            shaken = [(motion(image, length, degrees), faces) for length in blur]
            yield "camera shaken for ten frames, up to 45 pixels", shaken
        light = [*[1.0] * 8, *[0.07] * 15, *[1.0] * 4]
        yield "light falls to 7 % for 15 frames", [(vary(image, faces, light=v, noise=2)[0], faces) for v in light]
        angles = [*range(0, 84, 4), *range(80, -1, -4)]
        yield "head turns by 80 degrees and back", [_padded(*squeezed(image, faces, a), image.shape[1]) for a in angles]


def _padded(image, faces, width: int):
    left = (width - image.shape[1]) // 2
    right = width - image.shape[1] - left
    framed = cv2.copyMakeBorder(image, 0, 0, left, right, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    return framed, moved(faces, left)
