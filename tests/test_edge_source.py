"""What feeds the video demo: queues, sources that break, triggers."""

import struct
import threading
import time

import cv2
import numpy as np
import pytest
from videos import retime, write

from edge.app import source
from edge.app.buffer import Buffer
from edge.app.source import Source
from edge.app.trigger import Alarm, Motion, Rate
from edge.app.writer import Writer
from edge.errors import UserError

random = np.random.default_rng(11)


# queues


def test_a_full_buffer_drops_its_oldest_and_counts_it():
    buffer = Buffer(3, lossless=False)
    for i in range(10):
        buffer.put(i)
    buffer.close()
    assert list(buffer) == [7, 8, 9] and buffer.dropped == 7
    buffer.put(10)
    assert list(buffer) == [] and buffer.dropped == 8


def test_a_lossless_buffer_makes_the_producer_wait():
    buffer, got = Buffer(2, lossless=True), []
    thread = threading.Thread(target=lambda: [buffer.put(i) for i in range(50)] + [buffer.close()])
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()  # it waits for a reader
    got = list(buffer)
    thread.join(5)
    assert got == list(range(50)) and buffer.dropped == 0 and not thread.is_alive()


def test_closing_frees_a_waiting_producer():
    buffer = Buffer(1, lossless=True)
    thread = threading.Thread(target=lambda: [buffer.put(i) for i in range(5)])
    thread.start()
    time.sleep(0.05)
    buffer.close(discard=True)
    thread.join(5)
    assert not thread.is_alive() and list(buffer) == [] and buffer.dropped == 5


# sources


def test_broken_frames_of_a_file_are_skipped_and_counted(tmp_path):
    path = write(tmp_path / "a.avi", range(0, 240, 4))
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"]
    for frame in (5, 6, 20, 59):
        data[starts[frame] : starts[frame] + 200] = bytes(200)
    path.write_bytes(data)
    reader = Source(path)
    seen = {index: frame.mean() for index, _, frame in reader.frames(threading.Event())}
    assert reader.counts["in"] == 56 and reader.counts["corrupt"] == 4
    assert sorted(set(range(60)) - set(seen)) == [5, 6, 20, 59]
    assert all(abs(value - 4 * index) < 4 for index, value in seen.items())  # an index names its frame


def test_a_file_that_ends_early_is_counted(tmp_path):
    path = write(tmp_path / "a.avi", range(0, 240, 4))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    reader = Source(path)
    read = sum(1 for _ in reader.frames(threading.Event()))
    assert 20 < read < 60 and reader.counts["corrupt"] == 60 - read


def film(path, count, durations=None):
    """An MP4 file of grey frames, each as long as `durations` say."""
    with Writer(path, 25, lossless=True) as writer:
        for i in range(count):
            writer.put(np.full((48, 64, 3), 4 * i % 250, np.uint8))
    return retime(path, durations) if durations else path


VARIABLE = [0.01] * 20 + [2.0] + [0.02] * 19 + [0.5] * 10  # seconds


def test_times_are_the_containers(tmp_path):
    reader = Source(film(tmp_path / "a.mp4", 50, VARIABLE))
    seconds = [at for _, at, _ in reader.frames(threading.Event())]
    np.testing.assert_allclose(seconds, np.cumsum([0, *VARIABLE[:-1]]), atol=1e-3)
    assert reader.fps == pytest.approx(50 / sum(VARIABLE), rel=0.01)  # index / mean rate would be seconds off


def test_times_go_on_when_a_file_is_looped(tmp_path):
    reader, stop, seconds = Source(film(tmp_path / "a.mp4", 50, VARIABLE), loop=True), threading.Event(), []
    for _, at, _ in reader.frames(stop):
        seconds.append(at)
        if len(seconds) == 120:
            stop.set()
    one = np.cumsum([0, *VARIABLE[:-1]])
    length = one[-1] + 1 / reader.fps
    np.testing.assert_allclose(seconds, np.concatenate([one, one + length, one + 2 * length])[:120], atol=2e-3)


def test_realtime_keeps_the_containers_times(tmp_path):
    reader = Source(film(tmp_path / "a.mp4", 30, [0.01] * 10 + [0.5] + [0.01] * 19), realtime=True)
    start, late = time.monotonic(), []
    for _, at, _ in reader.frames(threading.Event()):
        late.append(time.monotonic() - start - at)
    assert min(late) > -1e-3 and at == pytest.approx(0.78, abs=2e-3)  # never early


def test_rate_goes_by_the_containers_times(tmp_path):
    rate = Rate(10)
    fired = [at for _, at, _ in Source(film(tmp_path / "a.mp4", 50, VARIABLE)).frames(threading.Event()) if rate(at)]
    assert min(np.diff(fired)) > 0.08 and len(fired) == 16


@pytest.mark.parametrize("times", [[0.0] * 9, [float("nan")] * 9, [40.0] * 9, [-1e18] * 9, [float("inf")] * 9])
def test_times_that_do_not_go_on_are_replaced(tmp_path, times):
    class Timeless:
        def __init__(self, where):
            self.file = cv2.VideoCapture(where)
            self.isOpened, self.grab, self.release = self.file.isOpened, self.file.grab, self.file.release
            self.retrieve = self.file.retrieve

        def get(self, what):
            return times[0] if what == cv2.CAP_PROP_POS_MSEC else self.file.get(what)

    reader = Source(write(tmp_path / "a.avi", [9] * 9), open=Timeless)
    seconds = [at for _, at, _ in reader.frames(threading.Event())]
    assert np.diff(seconds) == pytest.approx(0.04, abs=1e-5)


def longer(path, seconds, frames=30, fps=25):
    """A Matroska file that lasts longer than its frames, as with a sound track that goes on."""
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for i in range(frames):
        file.write(np.full((48, 64, 3), 4 * i, np.uint8))
    file.release()
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float64 in ms
    path.write_bytes(data[:at] + struct.pack(">d", seconds * 1000) + data[at + 8 :])
    return path


@pytest.mark.parametrize("seconds", [1.24, 1.5, 10, 3600, 1e6])
def test_a_file_whose_sound_goes_on_ends_with_its_frames(tmp_path, seconds):
    path = longer(tmp_path / "a.mkv", seconds)
    expected = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
    reader = Source(path)
    seen = [index for index, _, _ in reader.frames(threading.Event())]
    assert expected == round(seconds * 25) and seen == list(range(30))
    assert reader.counts == {"in": 30, "corrupt": 0, "withheld": 0, "reconnects": 0}


def test_reads_that_fail_for_ever_end(tmp_path):
    class Endless:
        """A header that promises a billion frames."""

        def __init__(self, where):
            self.file, self.reads = cv2.VideoCapture(where), 0
            self.isOpened, self.retrieve, self.release = self.file.isOpened, self.file.retrieve, self.file.release

        def get(self, what):
            return 1e9 if what == cv2.CAP_PROP_FRAME_COUNT else self.file.get(what)

        def grab(self):
            self.reads += 1
            return self.file.grab()

    for name, corrupt in (("a.avi", source.FAILED_READS_OF_A_FILE), ("a.mkv", 0)):
        path = write(tmp_path / name, [9] * 30)
        reader = Source(path, open=Endless)
        assert sum(1 for _ in reader.frames(threading.Event())) == 30
        assert reader.counts["corrupt"] == corrupt and reader._capture.reads == 30 + source.FAILED_READS_OF_A_FILE


def test_a_last_frame_an_hour_later_is_the_last(tmp_path):
    reader = Source(film(tmp_path / "a.mp4", 31, [0.04] * 29 + [3600, 0.04]))
    seconds = [at for _, at, _ in reader.frames(threading.Event())]
    assert len(seconds) == 31 and seconds[-1] == pytest.approx(3601.16, abs=0.01) and reader.counts["corrupt"] == 0


class Camera:
    """A camera that gives `lives` runs of frames; between them it vanishes, and `refused` openings fail."""

    opened, lives, refused, bad = 0, [], 0, ()

    def __init__(self, *_):
        cls = type(self)
        cls.opened += 1
        self.there = not 1 < cls.opened <= 1 + cls.refused and bool(cls.lives)
        self.script = list(cls.lives.pop(0)) if self.there else []

    def isOpened(self):
        return self.there

    def get(self, _):
        return 0.0

    def grab(self):
        self.now = self.script.pop(0) if self.script else None
        return self.now is not None

    def retrieve(self):
        if self.now == "broken":
            return True, np.zeros((4, 4), np.uint8)
        return True, np.full((48, 64, 3), self.now, np.uint8)

    def release(self):
        pass


class Clock(threading.Event):
    """An event whose waits take no time and are noted; set when the cameras are used up."""

    def __init__(self, camera):
        super().__init__()
        self.camera, self.waits = camera, []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        if not self.camera.lives:
            self.set()
        return self.is_set()


def test_a_camera_that_vanishes_is_opened_again_with_growing_pauses(monkeypatch):
    camera = type("Camera", (Camera,), {"lives": [[1, 2], [3]], "refused": 3})
    stop = Clock(camera)
    reader = Source("0", open=camera)
    assert [frame[0, 0, 0] for _, _, frame in reader.frames(stop)] == [1, 2, 3]
    assert stop.waits[:4] == [0.5, 1.0, 2.0, 4.0] and reader.counts["reconnects"] == 1
    monkeypatch.setattr(source, "BACKOFF", (1, 3))
    camera = type("Camera", (Camera,), {"lives": [[1], [2]], "refused": 4})
    stop = Clock(camera)
    assert len(list(Source("0", open=camera).frames(stop))) == 2
    assert stop.waits[:5] == [1, 2, 3, 3, 3]


def test_a_broken_frame_of_a_camera_is_skipped(monkeypatch):
    camera = type("Camera", (Camera,), {"lives": [[1, "broken", None, 2, "broken", 3]]})
    reader = Source("0", open=camera)
    assert [frame[0, 0, 0] for _, _, frame in reader.frames(Clock(camera))] == [1, 2, 3]
    assert reader.counts == {"in": 3, "corrupt": 3, "withheld": 0, "reconnects": 0}


@pytest.mark.parametrize(
    "where, message",
    [("none.mp4", "no such video file"), ("{here}", "not a video"), ("rtsp://127.0.0.1:9/", "reachable")],
)
def test_a_source_that_is_none(where, message):
    with pytest.raises(UserError, match=message):
        Source(where.format(here=__file__))


# triggers


def test_motion_adds_up_small_changes_and_ignores_noise():
    still = random.integers(90, 110, (128, 128, 3), dtype=np.uint8)
    motion = Motion(4)
    assert motion(still)
    for _ in range(20):
        noisy = np.clip(still + random.normal(0, 3, still.shape), 0, 255).astype(np.uint8)
        assert not motion(noisy)
    spot = still.copy()
    spot[40:48, 40:48] += 40  # one of 256 cells
    assert motion(spot) and not motion(spot)
    fired = sum(motion(np.full((32, 32, 3), 100 + i, np.uint8)) for i in range(30))
    assert 5 <= fired <= 7  # a drift of 1 per frame, against a limit of 4


def test_rate_keeps_its_mean():
    for fps, wanted in ((25, 10), (30, 7), (10, 25), (30, 25), (29.97, 20), (60, 1)):
        rate = Rate(wanted)
        fired = sum(rate(i / fps) for i in range(int(fps * 20)))
        assert abs(fired - 20 * min(fps, wanted)) <= 1


@pytest.mark.parametrize("gap", [1.0, 1.5, 2.0, 10.0, 3600.0])
def test_rate_fires_once_after_a_gap(gap):
    rate = Rate(1)
    times = [0.0, *(gap + 0.04 * i for i in range(60))]
    fired = [at for at in times if rate(at)]
    assert fired[:2] == [0.0, gap] and min(np.diff(fired)) > 0.9 - 1e-6 and len(fired) == 4


def test_motion_compares_with_what_was_looked_at_anyway():
    motion = Motion(4)
    grey = [np.full((32, 32, 3), value, np.uint8) for value in (100, 103, 106, 108)]
    assert motion(grey[0]) and motion(grey[1], always=True)
    assert not motion(grey[2]) and motion(grey[3])


def test_alarm_does_not_flicker():
    alarm = Alarm(3)
    verdicts = "01101110101001001000100000"
    states = "".join(str(int(alarm(v == "1"))) for v in verdicts)
    assert states == "00000011111111111110000000"  # on at the third 1 in a row, off at the third 0 in a row
