"""Woven fabric drawn from noise, with five defect types and pixel masks, in the spirit of DAGM 2007 (Wieler, Hahn).

Light, contrast and position change from image to image more than a defect changes them, so a defect shows only in the
local texture. Every length is a fraction of the shorter side, so the fabric looks the same at any size.

The ranges below are choices, made within the bounds that tests/test_synthetic.py keeps: the distance to the mean
training image doesn't find the defects (AUROC at most .57, raw or normalised), the nearest neighbours of local Gabor
responses do (1.0), a mask covers 0.3 to 10 % of the image, and its pixels change by three times the grain or more.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from stages.common.progress import track
from stages.fetch import hashes
from stages.fetch.picture import Picture

DEFECTS = ("deformation", "patch", "scratch", "smear", "stain")
KINDS = ("train", "good", *DEFECTS)
PERIOD = 1 / 16  # width of a thread: 8 px at the default size of 128
LEVEL, DEPTH = 0.56, 0.22  # about mean and spread of the weave; fixed, so that a defect changes no other pixel


def load(data, work: Path) -> list[Picture]:
    """Draws the images of `data.synthetic` into `work`."""
    wanted = data.synthetic
    counts = {"train": wanted.train, "good": wanted.test_good} | dict.fromkeys(DEFECTS, wanted.test_per_defect)
    pictures = []
    for kind, index in track([(k, i) for k in KINDS for i in range(counts[k])], "synthetic images"):
        defect = kind if kind in DEFECTS else "good"
        name = f"{defect}/{'train' if kind == 'train' else 'test'}_{index:04d}.png"
        file, mask_file = work / name, work / "masks" / name
        image, _, mask = draw((wanted.size, wanted.width or wanted.size), kind, index, data.seed)
        write_png(file, image)
        if kind in DEFECTS:
            write_png(mask_file, mask * np.uint8(255))
        origin = "train" if kind == "train" else "test"
        pictures.append(Picture(file, name, defect, mask_file if kind in DEFECTS else None, name, origin))
    hashes.verify_pictures(work, pictures, data.hashes)
    return pictures


def draw(size: tuple[int, int], kind: str, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image, the same image without its defect (both uint8 of that height and width) and the bool mask of the
    defect."""
    rng = np.random.default_rng([seed, KINDS.index(kind), index])
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / min(size)
    weave = _weave(rng, x, y)
    clean = weave(x, y)
    damaged, mask = _damage(kind, rng, weave, clean, x, y) if kind in DEFECTS else (clean, np.zeros(x.shape, bool))

    brightness, contrast = rng.uniform(90, 166), rng.uniform(24, 40)  # grey levels: 128 ± 38; one spread of the weave
    slope, towards = rng.uniform(0, 60), rng.uniform(0, 2 * np.pi)
    mid_y, mid_x = (side / min(size) / 2 for side in size)
    light = brightness + slope * ((x - mid_x) * np.cos(towards) + (y - mid_y) * np.sin(towards))
    grain = 2 * rng.standard_normal(x.shape)

    def expose(surface):
        return np.clip(np.rint(light + contrast * (surface - LEVEL) / DEPTH + grain), 0, 255).astype(np.uint8)

    return expose(np.where(mask, damaged, clean)), expose(clean), mask


def _weave(rng, x, y):
    """A plain weave as a function of the place, so that a defect can bend, turn or smear it without resampling."""
    angle = np.deg2rad(20 + rng.uniform(-4, 4))  # along no axis of the image
    period = PERIOD * rng.uniform(0.97, 1.03)
    phase = rng.uniform(0, 2, 2)  # over and under repeat after two threads
    bend_x, bend_y = (0.1 * _noise(rng, x.shape, 0.2) for _ in range(2))  # of a thread's width, slow
    fibre = 0.03 * _noise(rng, x.shape, 0.012)  # fine: about 1.5 px at the default size
    tint = 0.035 * rng.standard_normal((2, 64))  # each thread is a little lighter or darker; 64 are more than there are

    def surface(x, y):
        warp = (np.cos(angle) * x + np.sin(angle) * y) / period + phase[0] + bend_x
        weft = (np.cos(angle) * y - np.sin(angle) * x) / period + phase[1] + bend_y
        over = 0.5 + 0.5 * np.tanh(3 * np.cos(np.pi * warp) * np.cos(np.pi * weft))
        ridge_warp = np.abs(np.cos(np.pi * warp)) + tint[0, np.rint(warp).astype(int) % 64]
        ridge_weft = 0.8 * np.abs(np.cos(np.pi * weft)) + tint[1, np.rint(weft).astype(int) % 64]
        return over * ridge_warp + (1 - over) * ridge_weft + fibre

    return surface


def _damage(kind: str, rng, weave, clean, x, y) -> tuple[np.ndarray, np.ndarray]:
    """The surface with a defect and the mask of the pixels it touches; centre, size and direction are drawn."""
    height, width = (side / min(x.shape) for side in x.shape)
    centre_x, centre_y = rng.uniform(0.2, 0.8, 2) * (width, height)
    turn = rng.uniform(0, 2 * np.pi)
    dx, dy = x - centre_x, y - centre_y
    along, across = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    bearing = np.arctan2(across, along)
    outline = 1 + 0.15 * np.cos(2 * bearing) + 0.1 * np.cos(3 * bearing + rng.uniform(0, 2 * np.pi))
    reach = np.hypot(dx, dy) / outline  # distance from the centre of a defect with an uneven outline

    if kind == "scratch":  # a bright or dark groove, curved a little
        length, width, curve = rng.uniform(0.15, 0.25), rng.uniform(0.009, 0.013), rng.uniform(-0.8, 0.8)
        offset = np.abs(across - curve * along**2)
        groove = rng.choice([LEVEL - 1.9 * DEPTH, LEVEL + 1.9 * DEPTH])
        return groove + 0.15 * (clean - LEVEL), (np.abs(along) < length) & (offset < width)
    if kind == "stain":  # a spot in which the weave has a third of its contrast
        level = LEVEL + rng.choice([-0.9, 0.9]) * DEPTH
        return level + 0.3 * (clean - LEVEL), reach < rng.uniform(0.06, 0.11)
    if kind == "smear":  # the weave averaged along three threads
        shifts = np.linspace(-1.5, 1.5, 13) * PERIOD
        moved = [weave(x + s * np.cos(turn), y + s * np.sin(turn)) for s in shifts]
        return np.mean(moved, axis=0), np.hypot(along / 1.4, across * 1.4) < rng.uniform(0.09, 0.13)
    if kind == "patch":  # a rectangle of the weave, turned
        angle = np.deg2rad(rng.uniform(30, 60))
        turned_x, turned_y = np.cos(angle) * dx - np.sin(angle) * dy, np.sin(angle) * dx + np.cos(angle) * dy
        half = rng.uniform(0.08, 0.13)
        inside = (np.abs(along) < half) & (np.abs(across) < 0.8 * half)
        return weave(centre_x + turned_x, centre_y + turned_y), inside
    radius = rng.uniform(0.11, 0.16)  # deformation: a swirl, strongest in the centre
    swirl = rng.choice([-1, 1]) * rng.uniform(1.2, 1.7) * np.clip(1 - (reach / radius) ** 2, 0, 1)
    bent_x, bent_y = np.cos(swirl) * dx - np.sin(swirl) * dy, np.sin(swirl) * dx + np.cos(swirl) * dy
    return weave(centre_x + bent_x, centre_y + bent_y), reach < radius


def _noise(rng, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Noise of unit variance whose spots are about `scale` of the shorter side wide."""
    short = min(shape)
    fy, fx = np.fft.fftfreq(shape[0], 1 / short)[:, None], np.fft.rfftfreq(shape[1], 1 / short)[None]
    smooth = np.exp(-((np.pi * scale) ** 2) * (fx**2 + fy**2) / 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * smooth, s=shape)
    return (field - field.mean()) / field.std()


def write_png(path: Path, grey: np.ndarray) -> None:
    """Writes an 8-bit grey PNG without compression, so that its bytes don't depend on the zlib of the machine."""
    height, width = grey.shape
    raw = b"".join(b"\0" + row.tobytes() for row in grey)
    blocks = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    stored = b"".join(
        struct.pack("<BHH", i == len(blocks) - 1, len(b), len(b) ^ 0xFFFF) + b for i, b in enumerate(blocks)
    )
    stream = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
            for tag, body in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
        )
    )
