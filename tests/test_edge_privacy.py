"""Faces and zones: what is hidden, how well, and that nothing sees a frame before."""

import ast
import json

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT

from edge.__main__ import main
from edge.app import privacy
from edge.app.privacy import CELLS, MODES, Guard
from edge.errors import UserError
from edge.inference.detector import Detector

random = np.random.default_rng(5)
SKIN = (255, 0, 255)  # the colour of a face in these tests
BOX = (20, 10, 24, 24)


def picture(height=60, width=80):
    return random.integers(0, 200, (height, width, 3), dtype=np.uint8)


def with_face():
    image = picture()
    x, y, w, h = BOX
    image[y : y + h : 2, x : x + w : 2] = SKIN  # every other pixel: any average is another colour
    return image


def find_skin(image):
    y, x = np.nonzero((image == SKIN).all(2))
    return [(x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)] if len(x) else []


def shows_a_face(image):
    return bool((np.abs(image.astype(int) - SKIN).max(2) < 30).any())


# one frame


@pytest.mark.parametrize("mode", MODES)
def test_only_the_face_and_its_margin_change(mode):
    image = with_face()
    before = image.copy()
    assert Guard(mode, find_skin, margin=0.25)(image) is image
    changed = (image != before).any(2)
    x, y, w, h = BOX
    assert not shows_a_face(image)
    assert changed[y : y + h, x : x + w].mean() > 0.9
    changed[y - 6 : y + h + 6, x - 6 : x + w + 6] = False
    assert not changed.any()


@pytest.mark.parametrize("mode", MODES)
def test_what_was_averaged_out_does_not_matter(mode):
    """Pictures that differ inside every cell, but not in its mean, give the same result: it can't be inverted."""
    side = CELLS * 8
    image = picture(side, side)
    cells = image.reshape(CELLS, 8, CELLS, 8, 3).swapaxes(1, 2).reshape(CELLS**2, 64, 3)
    shuffled = random.permuted(cells, axis=1)
    other = shuffled.reshape(CELLS, CELLS, 8, 8, 3).swapaxes(1, 2).reshape(side, side, 3)
    assert (other != image).mean() > 0.9
    everywhere = [(0, 0, side, side)]
    hidden = [Guard(mode, lambda _: everywhere, margin=0)(p.copy()) for p in (image, np.ascontiguousarray(other))]
    assert np.abs(hidden[0].astype(int) - hidden[1]).max() <= (0 if mode == "fill" else 1)


def test_the_strength_grows_with_the_face():
    for side in (12, 48, 300):
        image = picture(side, side)
        Guard("pixelate", lambda _, s=side: [(0, 0, s, s)], margin=0)(image)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) <= CELLS**2


def test_zones_are_fractions_of_the_frame():
    image = np.full((40, 80, 3), 90, np.uint8)
    Guard("fill", zones=[(0.5, 0.25, 0.25, 0.5)])(image)
    expected = np.full((40, 80, 3), 90, np.uint8)
    expected[10:30, 40:60] = 0
    assert np.array_equal(image, expected)


def test_a_face_stays_hidden_for_some_frames_after_it_was_seen_last():
    boxes = iter([[BOX], [], [], []])
    guard = Guard("fill", lambda _: next(boxes), hold=2)
    black = [bool((guard(np.full((60, 80, 3), 9, np.uint8)) == 0).any()) for _ in range(4)]
    assert black == [True, True, True, False]


def fails(_):
    raise RuntimeError("no memory")


WRONG = [fails, lambda _: [(np.nan, 0, 5, 5)], lambda _: [(1, 2, 3)], lambda _: [(40, 40, -30, -30)], lambda _: None]


@pytest.mark.parametrize("find", WRONG)
def test_a_failing_detector_leaks_nothing(find):
    image = with_face()
    guard = Guard("blur", find, on_failure="drop")
    assert guard(image) is None and not image.any() and guard.counts["failures"] == 1
    image = with_face()
    guard = Guard("pixelate", find, on_failure="blur")
    assert guard(image) is image and not shows_a_face(image)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) <= CELLS * (CELLS + 1)


# frames that wait


def test_a_video_comes_out_in_its_order_and_late_by_some_frames():
    """A face is black where it was not seen yet, five frames before; after that nothing is."""
    frames = [(number, np.full((60, 80, 3), 9, np.uint8)) for number in range(20)]
    seen = iter(range(20))
    guard = Guard("fill", lambda _: [BOX] if next(seen) == 10 else [], ahead=5, hold=2)
    taken = []

    def source():
        for pair in frames:
            taken.append(pair[0])
            yield pair

    black = {}
    for number, frame in guard.video(source()):
        assert frame is frames[number][1] and taken[-1] == min(19, number + 5)
        black[number] = bool((frame == 0).any())
    assert list(black) == list(range(20))
    assert [number for number in black if black[number]] == [5, 6, 7, 8, 9, 10, 11, 12]


def test_zones_alone_wait_for_nothing():
    taken = []
    frames = ((number, taken.append(number) or np.full((8, 8, 3), 9, np.uint8)) for number in range(5))
    for number, frame in Guard("fill", zones=[(0, 0, 1, 0.5)], hold=5, ahead=5).video(frames):
        assert taken[-1] == number and not frame[:4].any() and frame[4:].all()


@pytest.mark.parametrize("find", WRONG)
def test_frames_of_a_failing_detector_do_not_come_out_of_a_video(find):
    calls = iter(range(12))
    guard = Guard("fill", lambda image: find(image) if next(calls) % 3 == 1 else find_skin(image), hold=5, ahead=5)
    frames = [with_face() for _ in range(12)]
    out = dict(guard.video(enumerate(frames)))
    assert [number for number, frame in out.items() if frame is None] == [1, 4, 7, 10]
    assert guard.counts["failures"] == 4 and not any(map(shows_a_face, frames))


@pytest.mark.parametrize(
    "lost", [fails, lambda _: np.array([[np.nan, 0, 5, 5]]), lambda _: np.array([[0, 0, np.inf, 5]])]
)
def test_a_path_that_leads_nowhere_is_a_failure(monkeypatch, lost):
    hidden = privacy.Paths.hidden
    monkeypatch.setattr(privacy.Paths, "hidden", lambda self, n: lost(n) if n == 3 else hidden(self, n))
    frames = [with_face() for _ in range(7)]
    guard = Guard("fill", find_skin, hold=5, ahead=2)
    out = [frame for _, frame in guard.video(enumerate(frames))]
    assert [frame is None for frame in out] == [False] * 3 + [True] + [False] * 3
    assert guard.counts["failures"] == 1 and not any(map(shows_a_face, frames))


def test_frames_that_wait_are_black_when_the_video_ends_early():
    frames = [with_face() for _ in range(12)]
    some = Guard("fill", lambda _: [], hold=5, ahead=5).video(enumerate(frames))
    assert next(some)[0] == 0
    some.close()
    assert [bool(frame.any()) for frame in frames] == [True] + [False] * 5 + [True] * 6

    def broken():
        yield from enumerate(frames[6:10])
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        list(Guard("fill", lambda _: [], hold=5, ahead=5).video(broken()))
    assert not any(frame.any() for frame in frames[6:10])


# every path


class Camera:
    """Stands for OpenCV's capture, and keeps every array that it handed out."""

    kept: list = []  # noqa: RUF012

    def __init__(self, *_):
        self.left = 12

    def isOpened(self):
        return True

    def get(self, what):
        return 12 if what == cv2.CAP_PROP_FRAME_COUNT else 25.0

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        frame = np.ascontiguousarray(with_face()[..., ::-1])
        self.kept.append(frame)
        return True, frame

    def release(self):
        pass


@pytest.fixture
def watched(monkeypatch):
    """Records whether a face reached the model, a file or the screen."""
    seen = {"model": [], "file": [], "screen": []}
    judge, imencode, video_writer = Detector.judge, cv2.imencode, cv2.VideoWriter

    class Watching:  # holds a writer: a subclass of it crashes when it is freed
        def __init__(self, *arguments):
            self.file = video_writer(*arguments)
            self.isOpened, self.release = self.file.isOpened, self.file.release

        def write(self, image):
            seen["file"].append(shows_a_face(image))
            self.file.write(image)

    def watch(what, action):
        def watching(*arguments):
            seen[what].append(shows_a_face(arguments[1]))
            return action(*arguments)

        return watching

    monkeypatch.setattr(Detector, "judge", watch("model", judge))
    monkeypatch.setattr(cv2, "VideoWriter", Watching)
    monkeypatch.setattr(cv2, "imencode", watch("file", imencode))
    monkeypatch.setattr(cv2, "imshow", watch("screen", lambda *_: None), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1, raising=False)
    # at the picture's own size, where a pixel of a face would show
    monkeypatch.setattr(Detector, "resize", lambda self, image: image)
    monkeypatch.setattr(Detector, "tensors", lambda self, image: [np.zeros((1, 16, 16, 3), np.int8)])
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False])
def test_no_unblurred_frame_is_reachable_in_a_video(watched, monkeypatch, tmp_path, capsys, guarded):
    calls = iter(range(100))

    def sometimes(image):
        return fails(image) if next(calls) % 4 == 3 else find_skin(image)

    Camera.kept.clear()
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(privacy, "FaceFinder", lambda *_, **__: sometimes)
    command = ["video", str(tiny_models.build() / "int8"), "0", "--output", str(tmp_path / "out.mp4"), "--show"]
    stop = ["--seconds", "0.3", "--json"]
    hide = ["--privacy", "blur", "--face-model", "yunet.onnx"] if guarded else []
    assert main([*command, *stop, *hide]) == 0
    summary = json.loads(capsys.readouterr().out)
    leaks = {where: any(found) for where, found in watched.items()}
    assert all(watched.values()), "the test watched nothing"
    assert leaks == dict.fromkeys(leaks, not guarded)
    assert any(map(shows_a_face, Camera.kept)) != guarded  # not even the decoder's own array
    frames = summary["frames"]
    assert frames["in"] == frames["out"] + frames["dropped"] + frames["withheld"] == len(Camera.kept)
    assert (frames["withheld"] > 0) == guarded


@pytest.mark.parametrize("guarded", [True, False])
def test_no_unblurred_picture_reaches_model_or_file(watched, monkeypatch, tmp_path, capsys, guarded):
    monkeypatch.setattr(privacy, "FaceFinder", lambda *_, **__: find_skin)
    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", with_face()[..., ::-1])[1].tobytes())
    watched["file"].clear()
    command = ["predict", str(tiny_models.build() / "int8"), str(file), "--overlay", str(tmp_path / "out")]
    assert main([*command, *(["--privacy", "fill", "--face-model", "yunet.onnx"] if guarded else [])]) == 0
    assert watched["model"] == [not guarded] and watched["file"] == [not guarded]


def test_only_guarded_places_decode():
    """Reading the source: what decodes video or pictures for the demo is in two functions, which call the guard."""
    decoders = {"VideoCapture": {"source.py"}, "retrieve": {"source.py"}, "read_image": {"pictures.py", "sample.py"}}
    for path in (ROOT / "edge" / "app").glob("*.py"):
        called = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in called]
        for name in ("VideoCapture", "retrieve", "read_image", "imread", "imdecode"):
            assert name not in names or path.name in decoders.get(name, ()), f"{path} calls {name}"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--privacy", "blur"], "nothing to hide"),
        (["--privacy"], "nothing to hide"),
        (["--zone", "0,0,1,1", "--smallest-face", "30"], "--smallest-face needs --face-model"),
        (["--face-model", "{tmp}/none.onnx"], "none.onnx: no such file"),
        (["--privacy", "blur", "--face-model", "x", "--smallest-face", "1"], "--smallest-face 1: must be at least 4"),
        (["--privacy", "blur", "--face-model", "{tmp}/bad.onnx"], "not a YuNet face detector"),
    ],
)
def test_wrong_privacy_options_are_one_line(tmp_path, capfd, arguments, message):
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    arguments = [a.format(tmp=tmp_path) for a in arguments]
    assert main(["predict", str(tiny_models.build() / "int8"), str(tmp_path / "a.png"), *arguments]) == 1
    out, err = capfd.readouterr()
    assert out == "" and message in err and err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("zone", ["1,2,3", "a,0,1,1", "0.5,0,0.6,1", "0,0,0,1"])
def test_a_wrong_zone_is_refused(capsys, zone):
    with pytest.raises(SystemExit) as end:
        main(["predict", "model", "image", "--privacy", "fill", "--zone", zone])
    assert end.value.code == 2 and "argument --zone" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--privacy"], ["--privacy", "fill"]])
def test_what_is_to_be_hidden_is_black_unless_said_otherwise(monkeypatch, tmp_path, arguments):
    seen = []
    monkeypatch.setattr(Detector, "predict", lambda self, image: seen.append(image) or self.judge(self.resize(image)))
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 80, 3), 90, np.uint8))
    command = ["predict", str(tiny_models.build() / "int8"), str(tmp_path / "a.png"), *arguments]
    assert main([*command, "--zone", "0.5,0.25,0.25,0.5"]) == 0
    expected = np.full((40, 80, 3), 90, np.uint8)
    expected[10:30, 40:60] = 0
    assert np.array_equal(seen[0], expected)


def test_wrong_guard():
    for options in ({"mode": "smear"}, {"on_failure": "ignore"}):
        with pytest.raises(UserError, match="must be"):
            Guard(**options)
