"""What a watch stores of people: a second face detector finds none of the faces in its clips and pictures that the
first one had found in the raw frames."""

import json
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
import sites
from conftest import ROOT
from face_variants import FACES, model, overlap
from link_parties import environment

from edge.app.faces import FaceFinder
from edge.app.privacy import MODES
from edge.event import from_json
from edge.preprocess import read_image

pytestmark = [pytest.mark.assets, pytest.mark.slow]
FPS, SECONDS = 5, 4


def film(image, path):
    """A photograph that trembles and changes its light, and a bright square that moves at its lower edge."""
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    frames = []
    for i in range(FPS * SECONDS):
        dx, dy = rng.integers(-2, 3, 2)
        moved = cv2.warpAffine(
            image, np.float32([[1, 0, dx], [0, 1, dy]]), (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        frame = np.clip(moved * (1 + 0.05 * np.sin(i / 3)), 0, 255).astype(np.uint8)
        if i >= FPS:
            x = 20 + (9 * i) % (width // 2)
            frame[-40:, x : x + 40] = 255
        frames.append(frame)
    file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (width, height))
    for frame in frames:
        file.write(frame[..., ::-1])
    file.release()


def by_opencv(path):
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        fine, frame = capture.read()
        if not fine:
            return np.stack(found)
        found.append(frame[..., ::-1])


def by_pyav(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def first_detector(frames, known, find):
    """Those of the known faces that it finds in each of these frames; what else it takes for one is hidden, too."""
    found = [find(frame) for frame in frames]
    return [face for face in known if all(max(overlap(face, box) for box in boxes) >= 0.3 for boxes in found)]


def watch(folder, assets, mode):
    """A watch over all videos in this folder; its clips."""
    cameras = [{"name": path.stem, "source": f"../{path.name}", "objects": "motion"} for path in folder.glob("*.avi")]
    at = folder / mode
    at.mkdir()
    rules = [{"object": "motion", "action": "record", "end_after": 1}]
    privacy = {"mode": mode, "faces": str(model(assets))}
    clips = {"before": 1, "after": 1, "rate": FPS}
    sites.write(at, sites.small(cameras=cameras, zones=[], rules=rules, privacy=privacy, clips=clips))
    command = [sys.executable, "-m", "edge", "watch", "site.json", "--json"]
    return subprocess.Popen(command, cwd=at, env=environment(), stdout=subprocess.PIPE, text=True)


def test_a_second_detector_finds_no_face_in_what_is_stored(assets, tmp_path, opencv4):
    find = FaceFinder(model(assets))
    faces, arrays = {}, tmp_path / "arrays"
    arrays.mkdir()
    for name in FACES:
        stem = name.split(".")[0]
        film(read_image(assets / "data/photos" / name), tmp_path / f"{stem}.avi")
        raw = by_opencv(tmp_path / f"{stem}.avi")
        faces[stem] = first_detector(raw[::5], FACES[name], find)
        np.save(arrays / f"{stem}--raw.npy", raw[::5])
    (arrays / "faces.json").write_text(json.dumps(faces))
    running = {mode: watch(tmp_path, assets, mode) for mode in MODES}
    for mode, process in running.items():
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        events = [from_json(line.encode()) for line in out.splitlines() if '"stats"' not in line[:10]]
        of = {event.clip.name: event.camera for event in events if event.clip}
        assert set(of.values()) == set(faces)  # both videos were recorded
        for clip in sorted((tmp_path / mode / "clips").glob("clip-*.avi")):
            stem = of[clip.name]
            for reader in (by_opencv, by_pyav):
                np.save(arrays / f"{stem}--{mode}-{clip.stem}-{reader.__name__}.npy", reader(clip)[::2])
            picture = read_image(clip.with_suffix(".jpg"))
            np.save(arrays / f"{stem}--{mode}-{clip.stem}-picture.npy", picture[None])
    done = opencv4(ROOT / "tests" / "face_clips.py", arrays)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    raw = {name: counts for name, counts in seen.items() if name.endswith("--raw")}
    stored = {name: counts for name, counts in seen.items() if name not in raw}
    # otherwise the test would prove nothing: both see faces in every raw frame that they are shown
    assert sum(map(len, faces.values())) == 5
    assert len(raw) == len(FACES) and all(min(counts) > 0 for counts in raw.values()), raw
    assert sum(min(counts) for counts in raw.values()) >= 4, raw
    assert len(stored) >= 3 * len(MODES) * len(FACES) and sum(map(len, stored.values())) > 50
    assert {name: counts for name, counts in stored.items() if any(counts)} == {}
