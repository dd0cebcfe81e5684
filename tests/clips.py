"""A toy set of clips as fetch writes them: a bright square crosses a textured scene; in a defect it is fast."""

from pathlib import Path

import cv2
import numpy as np

from stages.common.dataset import Item, sha256, write_index

FRAMES = 12


def frames(rng: np.random.Generator, size: int, speed: float, count: int = FRAMES):
    """(picture uint8 [size, size, 3], bool mask of what moves) of each frame."""
    scene = cv2.GaussianBlur(rng.normal(128, 60, (size, size)).astype(np.float32), (0, 0), 2)
    side, y = size // 6, int(rng.integers(size // 6, size - size // 3))
    start = rng.uniform(0, size - side)
    for t in range(count):
        x = int((start + speed * t) % (size - side))
        mask = np.zeros((size, size), bool)
        mask[y : y + side, x : x + side] = True
        grey = np.where(mask, 230, scene + rng.normal(0, 2, scene.shape))
        yield np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2), mask


def write(folder: Path, splits: dict[str, int], size: int, seed: int = 0) -> None:
    """`folder`/index.csv with so many clips of each split; of test every second one is a defect in all its frames."""
    rng, items = np.random.default_rng(seed), []
    for split, count in splits.items():
        for k in range(count):
            label = int(split == "test" and k % 2)
            defect, clip = "fast" if label else "good", f"{split}-{k}"
            for t, (picture, mask) in enumerate(frames(rng, size, 6 if label else 1.5)):
                path = f"images/{clip}/{t:03d}.png"
                truth = f"masks/fast/{clip}-{t:03d}.png" if label else ""
                for name, image in ((path, picture), (truth, mask.astype(np.uint8) * 255)):
                    if name:
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                        cv2.imwrite(str(folder / name), image)
                digest = sha256(folder / path)
                items.append(Item(path, split, label, defect, truth, digest, clip, clip, t))
    write_index(folder, items)
