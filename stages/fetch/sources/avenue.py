"""CUHK Avenue: 16 clips of an avenue to train, 21 to test; running, throwing and wrong directions are the anomalies.

C. Lu, J. Shi, J. Jia, "Abnormal event detection at 150 FPS in MATLAB", ICCV 2013. Two archives: the videos
(training_videos/01.avi, testing_videos/01.avi) and the pixels (testing_label_mask/1_label.mat: `volLabel`, one mask for
each frame).
"""

from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat

from edge.errors import UserError
from stages.common.dataset import sha256
from stages.common.textfile import open_regular, reason
from stages.fetch import archive, clip, download, hashes
from stages.fetch.picture import Picture

SITE = "http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal"
FILES = {  # the sha256 of each archive, as anomalib checks them
    "Avenue_Dataset.zip": "fc9cb8432a11ca79c18aa180c72524011411b69d3b0ff27c8816e41c0de61531",
    "ground_truth_demo.zip": "60fec1728ec8f73a58aad3aeb5729d70a805a47e0b8eb4bf91ab67ef06386d77",
}
FOLDERS = ("training_videos", "testing_videos", "testing_label_mask")
HINT = "data.path takes a folder with both archives, or with training_videos, testing_videos and testing_label_mask"


def load(data, work: Path) -> list[Picture]:
    """The clips of the folder at `data.path`, which may hold the archives, or of the public archives."""
    folders = _folders(_root(data, work))
    found = []
    for name, frames in clip.clips_in(folders["training_videos"], work / "train").items():
        found += clip.pictures(f"train-{name}", frames, "train")
    for name, frames in clip.clips_in(folders["testing_videos"], work / "test").items():
        file = _labels(folders["testing_label_mask"], name)
        masks = read_masks(file)
        if len(masks) != len(frames):
            raise UserError(f"{file}: {len(masks)} masks for the {len(frames)} frames of clip {name}; replace one")
        marked = [place for place, mask in enumerate(masks) if mask.any()]
        truth = clip.write_masks(masks, marked, work / "masks" / name)
        found += clip.pictures(f"test-{name}", frames, "test", marked, truth)
    hashes.verify_pictures(work, found, data.hashes)
    return found


def read_masks(path: Path) -> np.ndarray:
    """The masks bool [T, H, W] of one clip; UserError for a file that isn't one of them."""
    advice = "fetch the dataset again"
    with open_regular(path, advice) as stream:
        try:
            cells = loadmat(stream)["volLabel"].reshape(-1)
            return np.stack([np.asarray(cell) != 0 for cell in cells]).reshape(len(cells), *np.asarray(cells[0]).shape)
        except Exception as error:  # of a damaged file scipy raises whatever it meets
            raise UserError(f"{path}: not a file of masks (volLabel): {reason(error)}; {advice}") from None


def _labels(folder: Path, name: str) -> Path:
    """The masks of the clip `name`: those of 01.avi are 1_label.mat."""
    return folder / f"{name.lstrip('0') or name}_label.mat"


def _root(data, work: Path) -> Path:
    """A folder that holds FOLDERS, in it or below it."""
    if data.url and data.path is None:
        raise UserError(f"data.url: avenue has two archives, so one address won't do; {HINT}")
    if data.path is None:
        archives = [download.fetch(f"{SITE}/{name}", name, listed=True) for name in FILES]
    else:
        path = archive.existing(data.path)
        if not path.is_dir():
            raise UserError(f"{path}: not a folder; {HINT}")
        if _find(path, FOLDERS[0]):
            return path
        archives = [path / name for name in FILES]
    for file in archives:
        if not file.is_file():
            raise UserError(f"{file}: not found; {HINT}")
        if sha256(file) != FILES[file.name]:
            raise UserError(f"{file}: its sha256 is not {FILES[file.name]}; replace it")
        archive.extract(file, work / "archive", _place)
    return work / "archive"


def _find(root: Path, name: str) -> Path | None:
    """The folder of that name in `root`, or one or two levels below it."""
    return next((p for depth in ("", "*/", "*/*/") for p in sorted(root.glob(f"{depth}{name}")) if p.is_dir()), None)


def _folders(root: Path) -> dict[str, Path]:
    found = {name: _find(root, name) for name in FOLDERS}
    for name, folder in found.items():
        if folder is None:
            raise UserError(f"{root}: has no folder {name}; {HINT}")
    return {name: folder for name, folder in found.items() if folder is not None}


def _place(parts: tuple[str, ...]) -> PurePosixPath | None:
    """Where a member of an archive goes: from one of FOLDERS on, without hidden files."""
    return archive.below(parts, FOLDERS)
