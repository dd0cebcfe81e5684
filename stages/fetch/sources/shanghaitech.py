"""ShanghaiTech Campus: 330 clips of 13 scenes to train, 107 to test; bikes, chases and brawls are the anomalies.

W. Liu, W. Luo, D. Lian, S. Gao, "Future frame prediction for anomaly detection", CVPR 2018. training/videos/01_001.avi
(or training/frames/01_001/), testing/frames/01_0014/000.jpg, testing/test_frame_mask/01_0014.npy (0 or 1 for each
frame) and testing/test_pixel_mask/01_0014.npy (a mask for each frame). Nobody offers it at a fixed address:
svip-lab.github.io/dataset/campus_dataset.html says where to get it.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from edge.errors import UserError
from stages.common.textfile import open_regular, reason
from stages.fetch import archive, clip, hashes
from stages.fetch.picture import Picture

HINT = "set data.path to the folder or archive that holds training and testing"


def load(data, work: Path) -> list[Picture]:
    """The clips of the folder or archive at `data.path`."""
    if data.path is None:
        raise UserError(f"data.path = null: shanghaitech has no public address; download it, then {HINT}")
    path = archive.existing(data.path)
    if path.is_file():
        archive.extract(path, work / "archive", _place)
        path = work / "archive"
    roots = [p for p in (path, *sorted(path.glob("*"))) if (p / "training").is_dir() and (p / "testing").is_dir()]
    if not roots:
        raise UserError(f"{path}: has no folders training and testing; {HINT}")
    training, testing = roots[0] / "training", roots[0] / "testing"
    found = []
    for name, frames in clip.clips_in(_either(training, "videos", "frames"), work / "train").items():
        found += clip.pictures(f"train-{name}", frames, "train")
    for name, frames in clip.clips_in(_either(testing, "frames", "videos"), work / "test").items():
        labels = read(testing / "test_frame_mask" / f"{name}.npy", len(frames), 1)
        marked = np.flatnonzero(labels).tolist()
        pixels = testing / "test_pixel_mask" / f"{name}.npy"
        masks = clip.write_masks(read(pixels, len(frames), 3), marked, work / "masks" / name) if pixels.exists() else {}
        found += clip.pictures(f"test-{name}", frames, "test", marked, masks)
    hashes.verify_pictures(roots[0], found, data.hashes)
    return found


def read(path: Path, frames: int, axes: int) -> np.ndarray:
    """The labels [T] or masks [T, H, W] in a file of numpy; UserError for anything else, pickles among it."""
    advice = "fetch the dataset again"
    with open_regular(path, advice) as stream:
        try:
            found = np.load(stream, allow_pickle=False)
        except Exception as error:
            raise UserError(f"{path}: not an array of numpy: {reason(error)}; {advice}") from None
    if not isinstance(found, np.ndarray) or found.ndim != axes or len(found) != frames:
        shape = list(getattr(found, "shape", []))
        raise UserError(f"{path}: {shape} values for a clip of {frames} frames; {advice}")
    return found


def _either(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise UserError(f"{folder}: has neither {names[0]} nor {names[1]}; {HINT}")


def _place(parts: tuple[str, ...]) -> PurePosixPath | None:
    """Where a member of the archive goes: from training or testing on, without hidden files."""
    return archive.below(parts, ("training", "testing"))
