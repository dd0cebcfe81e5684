"""Synthetic defects pasted into good pictures, which the student learns to segment (its output `mask`).

As in DRAEM (Zavrtanik et al., ICCV 2021) Perlin noise gives irregular masks; unlike there, no foreign pictures are
needed to fill them. All ranges and probabilities are choices, of which no comparison is on record; what they look like
is drawn by distill (reports/curves/distill/defects.png).
"""

import cv2
import numpy as np

from stages.training import video_defects

# channels from which a sample is a clip: fewer frames show little motion, and three may be a picture's colours
CLIP = 4


def channelwise(function, sample: np.ndarray) -> np.ndarray:
    """Applies a function of OpenCV, which takes at most four channels, to a sample [H, W, C] of any number."""
    chunks = [function(np.ascontiguousarray(sample[:, :, i : i + 4])) for i in range(0, sample.shape[2], 4)]
    return np.concatenate([chunk.reshape(*chunk.shape[:2], -1) for chunk in chunks], axis=2)


def perlin(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth gradient noise float32 [height, width] in about -1..1 (Perlin 1985, with the quintic fade); `cells` along
    the shorter side."""
    short = min(height, width)
    y, x = (np.linspace(0, cells * side / short, side, endpoint=False) for side in (height, width))
    angle = rng.uniform(0, 2 * np.pi, (int(y[-1]) + 2, int(x[-1]) + 2))
    fade_y, fade_x = (frac**3 * (frac * (frac * 6 - 15) + 10) for frac in (y % 1, x % 1))

    def corner(dy, dx):
        a = angle[np.ix_(y.astype(int) + dy, x.astype(int) + dx)]
        return np.cos(a) * (x % 1 - dx)[None, :] + np.sin(a) * (y % 1 - dy)[:, None]

    top = corner(0, 0) + fade_x[None, :] * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + fade_x[None, :] * (corner(1, 1) - corner(1, 0))
    return ((top + fade_y[:, None] * (bottom - top)) * np.sqrt(2)).astype(np.float32)


def blob(rng, height: int, width: int) -> np.ndarray:
    """A bool mask [height, width] of irregular blobs: Perlin noise above a threshold, inside a random window."""
    noise = perlin(rng, height, width, int(rng.choice([4, 8, 16])))
    window = np.zeros((height, width), bool)
    h, w = (rng.uniform(0.12, 0.45, 2) * min(height, width)).astype(int) + 2
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    window[y : y + h, x : x + w] = True
    inside = noise[window]
    return window & (noise > np.quantile(inside, rng.uniform(0.3, 0.7)))


def ellipse(rng, height: int, width: int) -> np.ndarray:
    """A bool mask [height, width] of one rotated ellipse."""
    mask = np.zeros((height, width), np.uint8)
    centre = tuple(int(v) for v in rng.integers(0, (width, height)))
    axes = tuple(max(1, int(v)) for v in rng.uniform(0.02, 0.12, 2) * min(height, width))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask > 0


def scratch(rng, height: int, width: int) -> np.ndarray:
    """A bool mask [height, width] of one thin line with slight bends."""
    mask, size = np.zeros((height, width), np.uint8), min(height, width)
    point, heading = rng.uniform(0, (width, height)), rng.uniform(0, 2 * np.pi)
    step = size * rng.uniform(0.02, 0.08)
    points = [point]
    for _ in range(int(rng.integers(4, 12))):
        heading += rng.normal(0, 0.25)
        points.append(points[-1] + step * np.array([np.cos(heading), np.sin(heading)]))
    thickness = int(rng.integers(1, max(2, size // 40) + 1))
    cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, thickness)
    return mask > 0


def add_defect(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`image` with one synthetic defect, and its mask; some defects are barely visible.

    image, donor: uint8 [H, W, C], donor another good picture. Returns uint8 [H, W, C] and bool [H, W].
    """
    height, width = image.shape[:2]
    size = min(height, width)
    shape = (blob, ellipse, scratch)[rng.choice(3, p=[0.5, 0.25, 0.25])]
    mask = shape(rng, height, width)
    while not mask.any():  # a scratch that left the picture at once
        mask = shape(rng, height, width)
    base = image.astype(np.float32)
    strength = rng.uniform(0.4, 1.0)
    fill = rng.choice(5)
    if fill == 0:  # texture of the donor, rotated and scaled
        centre = tuple(float(v) for v in rng.uniform(0.3, 0.7, 2) * (width, height))
        turn = cv2.getRotationMatrix2D(centre, rng.uniform(20, 340), np.exp(rng.uniform(-1, 1)))
        other = channelwise(
            lambda part: cv2.warpAffine(part, turn, (width, height), borderMode=cv2.BORDER_REFLECT), donor
        ).astype(np.float32)
        content = (other - other.mean()) * rng.uniform(0.7, 2.0) + other.mean() + rng.normal(0, 30)
    elif fill == 1:  # darker or brighter
        content = base + float(rng.choice([-1, 1]) * rng.uniform(25, 110))
    elif fill == 2:  # the same texture, deformed
        shift = rng.uniform(0.05, 0.15) * size
        yy, xx = np.mgrid[:height, :width].astype(np.float32)
        field = [perlin(rng, height, width, 8) * shift for _ in range(2)]
        at_x, at_y = xx + field[0], yy + field[1]
        content = channelwise(
            lambda part: cv2.remap(part, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), base
        )
    elif fill == 3:  # blurred
        sigma = rng.uniform(0.02, 0.06) * size
        content = channelwise(lambda part: cv2.GaussianBlur(part, (0, 0), sigma), base) + rng.normal(0, 15)
    else:  # foreign texture: speckle
        noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), rng.uniform(0.5, 3))
        content = base.mean() + rng.normal(0, 40) + (noise / noise.std() * rng.uniform(5, 50))[..., None]
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))[..., None] * strength
    return np.clip(base * (1 - soft) + content * soft + 0.5, 0, 255).astype(np.uint8), mask


def vary(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Augmentation: the picture slightly shifted, brighter or darker; not mirrored: products have a handedness."""
    height, width = image.shape[:2]
    dy, dx = np.round(rng.uniform(-0.04, 0.04, 2) * min(height, width))
    shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    how = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_REFLECT_101}
    moved = channelwise(lambda part: cv2.warpAffine(part, shift, (width, height), **how), image)
    return np.clip(moved * rng.uniform(0.9, 1.1) + rng.uniform(-8, 8) + 0.5, 0, 255).astype(np.uint8)


def training_pool(images: np.ndarray, count: int, seed: int, pool: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`count` augmented pictures uint8 [count, H, W, C], every second one with a defect; masks bool [count, H, W].
    Those of clips are defects of motion, and some of the good ones stand still or hold a decoy (video_defects.py).

    pool: number of the random stream: pools of another number or seed hold other pictures.
    """
    pictures = np.empty((count, *images.shape[1:]), np.uint8)
    masks = np.zeros(pictures.shape[:3], bool)
    speed = video_defects.usual_speed(images) if images.shape[3] >= CLIP else None
    for i in range(count):
        rng = np.random.default_rng([seed, pool, i])
        picture = vary(rng, images[rng.integers(len(images))])
        if speed is not None:
            donor = images[rng.integers(len(images))]
            picture = video_defects.add_good(rng, picture, donor, speed)
            if i % 2:
                picture, masks[i] = video_defects.add_video_defect(rng, picture, donor, speed)
        elif i % 2:
            donor = images[rng.integers(len(images))]
            picture, masks[i] = add_defect(rng, picture, donor)
        pictures[i] = picture
    return pictures, masks
