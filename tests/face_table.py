"""How well faces are hidden: `PYTHONPATH=. python tests/face_table.py ASSETS [FILE]` writes what docs/video.md shows.

ASSETS is the folder of real images and weights. Counted are the faces that stay visible with one plain look and with
the guard as it is, what is hidden where there is no face, the time, and how often a hidden face is still told from four
others."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from time import process_time

import cv2
import face_identity
import numpy as np
from face_conditions import clips, photos, pictures, walk
from face_variants import NO_FACE, VARIANTS, model, vary

from edge.app.faces import FULL, LEAST, FaceFinder
from edge.app.privacy import AHEAD, HOLD, Guard
from edge.preprocess import read_image
from experiments import provenance

RECORD = Path(__file__).resolve().parent.parent / "reports" / "published" / "privacy" / "faces.json"
SEARCHED = 640  # pixels: the longer side that one plain look sees
PLAIN, GUARD = "one look", "guard"


class Plain:
    """One look at 640 pixels and boxes that stay for some frames: what the guard was before, as a yardstick."""

    def __init__(self, path: Path, hold: int = 0):
        self.find, self.recent, self.hold = FaceFinder(path, passes=(FULL,)), [], hold

    def __call__(self, frame):
        self.find.smallest = LEAST * max(frame.shape[:2]) / SEARCHED
        boxes = self.find(frame)
        self.recent = [*self.recent, boxes[boxes[:, 4] >= 1, :4]][-self.hold - 1 :]
        return Guard("fill", lambda _: np.concatenate(self.recent))(frame)

    def video(self, frames):
        for note, frame in frames:
            yield note, self(frame)


def guards(path: Path, video: bool) -> dict:
    """The two that are compared, fresh."""
    if not video:
        return {PLAIN: Plain(path), GUARD: Guard("fill", FaceFinder(path))}
    full = Guard("fill", FaceFinder(path, in_turn=True), hold=HOLD, ahead=AHEAD)
    return {PLAIN: Plain(path, HOLD), GUARD: full}


def painted(guard, image) -> np.ndarray:
    """Where the guard hid something, bool [H, W]."""
    return (guard(np.maximum(image, 1)) == 0).all(2)


def covered(mask, face) -> tuple[float, bool] | None:
    """(visible share of the face, whether it is hidden): nine tenths of what the frame shows of the middle of its box
    lie in what was painted; None when the frame shows nothing of the middle."""
    x, y, w, h = face
    middle = mask[_span(y + h / 8, y + h * 7 / 8), _span(x + w / 8, x + w * 7 / 8)]
    if not middle.size:
        return None
    inside = mask[_span(y, y + h), _span(x, x + w)].size / (w * h)
    return inside, bool(middle.mean() >= 0.9)


def _span(start: float, end: float) -> slice:
    return slice(max(0, round(start)), max(0, round(end)))


class Counts:
    """Faces and those missed by each guard, by condition."""

    def __init__(self):
        self.rows: dict[str, dict[str, int]] = {}

    def add(self, condition: str, guard: str, result: tuple[float, bool] | None) -> None:
        if result is None:
            return
        row = self.rows.setdefault(condition, {PLAIN: 0, GUARD: 0, "faces": 0})
        row["faces"] += guard == PLAIN
        row[guard] += not result[1]


def of_pictures(assets: Path) -> dict:
    counts, both = Counts(), guards(model(assets), video=False)
    for name, image, faces in pictures(assets):
        for guard_name, guard in both.items():
            mask = painted(guard, image)
            for face in faces:
                counts.add(name, guard_name, covered(mask, face))
    return counts.rows


def of_clips(assets: Path) -> dict:
    counts = Counts()
    for name, frames in clips(assets):
        for guard_name, guard in guards(model(assets), video=True).items():
            for faces, frame in guard.video((faces, np.maximum(image, 1)) for image, faces in frames):
                mask = (frame == 0).all(2)
                for face in faces:
                    result = covered(mask, face)
                    cut = result is not None and result[0] < 0.5
                    counts.add(f"{name}, less than half visible" if cut else name, guard_name, result)
    return counts.rows


def without_faces(assets: Path) -> dict[str, list[np.ndarray]]:
    """Pictures that show no face, by where they come from."""
    with zipfile.ZipFile(next((assets / "data").glob("Magnetic*.zip"))) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::10]
        tiles = [cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR) for name in names]
    pills = [read_image(path) for path in sorted((assets / "data" / "pill" / "test").glob("*/*.*"))[::2]]
    nobody = [image for image, _ in photos(assets, NO_FACE)]
    varied = [vary(image, np.ones((1, 4)), **how)[0] for image in nobody for how in VARIANTS.values()]
    return {"magnetic tiles": tiles, "pills": pills, "a parrot and a sunflower, in 12 variants": varied}


def needless(assets: Path) -> dict:
    """Where there is no face: how many pictures have something hidden, and which share of all pixels it is."""
    result = {}
    for name, images in without_faces(assets).items():
        both = guards(model(assets), video=False)
        result[name] = _hidden({g: [painted(guard, image) for image in images] for g, guard in both.items()})
    parrot, sunflower = (image for image, _ in photos(assets, NO_FACE))
    background = cv2.resize(sunflower, parrot.shape[1::-1])
    frames = [frame for frame, _ in walk(parrot, np.empty((0, 4)), background, "left", 16)]
    masks = {}
    for guard_name, guard in guards(model(assets), video=True).items():
        shown = guard.video((None, np.maximum(frame, 1)) for frame in frames)
        masks[guard_name] = [(frame == 0).all(2) for _, frame in shown]
    result["the parrot comes in and leaves, in video"] = _hidden(masks)
    return result


def _hidden(masks: dict[str, list[np.ndarray]]) -> dict:
    row: dict = {"pictures": len(masks[GUARD])}
    for name, of_guard in masks.items():
        share = float(np.mean([mask.mean() for mask in of_guard]))
        row[name] = {"pictures": sum(bool(mask.any()) for mask in of_guard), "share": round(share, 4)}
    return row


def milliseconds(assets: Path) -> dict:
    """CPU time of a frame on one thread, by size of the frame: the median, the guards in turns."""
    cv2.setNumThreads(1)
    image, result = next(photos(assets, ["grace_hopper.bmp"]))[0], {}
    image = np.maximum(image, 70)  # nothing is dark
    for width, height in ((128, 128), (640, 480), (1280, 720), (1920, 1080)):
        frame = cv2.resize(image, (width, height))
        dark = (frame * 0.07).astype(np.uint8)
        finder = {size: FaceFinder(model(assets), size, in_turn=True) for size in (None, 30, 12)}
        measured = {
            PLAIN: (Plain(model(assets), HOLD), frame),
            "video": (Guard("fill", finder[None], hold=HOLD, ahead=AHEAD), frame),
            "dark video": (Guard("fill", finder[None], hold=HOLD, ahead=AHEAD), dark),
            "picture": (Guard("fill", FaceFinder(model(assets))), frame),
            "video, --smallest-face 30": (Guard("fill", finder[30], hold=HOLD, ahead=AHEAD), frame),
            "video, --smallest-face 12": (Guard("fill", finder[12], hold=HOLD, ahead=AHEAD), frame),
        }
        times: dict = {name: [] for name in measured}
        for _ in range(20):
            for name, (guard, seen) in measured.items():
                copies = [seen.copy(), seen.copy()]  # two: the passes take turns
                start = process_time()
                for copy in copies:
                    guard(copy)
                times[name].append(1000 * (process_time() - start) / 2)
        result[f"{width} x {height}"] = {name: round(float(np.median(t)), 1) for name, t in times.items()}
    return result


def main() -> None:
    assets = Path(sys.argv[1])
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else RECORD
    record = {
        "code": provenance.current(),
        "pictures": of_pictures(assets),
        "video": of_clips(assets),
        "without faces": needless(assets),
        "identified": face_identity.rates(assets),
        "ms": milliseconds(assets),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
