"""Clips of events: what OpenCV and FFmpeg read of them, their length, their peak, and settings."""

import hashlib
import threading
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from conftest import one_line
from link_parties import one_by_one
from test_event import event

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.watch.avi import HEADER, AviFile
from edge.watch.recorder import Recorder, Settings, parse


def picture(number: int, size=(64, 48)) -> np.ndarray:
    """A picture whose brightness tells its number, up to 240."""
    return np.full((size[1], size[0], 3), number % 240, np.uint8)


def noise(number: int, size=(128, 96)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def read(path) -> list[int]:
    """The numbers of the pictures, as OpenCV reads them."""
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        more, frame = capture.read()
        if not more:
            assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(found)
            return found
        found.append(round(float(frame.mean())))


@pytest.fixture
def make(tmp_path, said):
    def build(**options) -> Recorder:
        options = {"rate": 10.0, "before": 2.0, "after": 1.0, "longest": 8.0, **options}
        return Recorder(Settings(tmp_path / "clips", **options), said.append)

    with one_by_one(build) as make:
        yield make


def happening(name="e1", **more):
    return event(id=name, camera="yard", clip=None, **more)


def play(recorder, start: int, stop: int, frame=picture, rate=10, camera="yard") -> None:
    for number in range(start, stop):
        recorder.add(camera, frame(number), number / rate)


def test_before_during_and_after(make, tmp_path):
    recorder = make()
    play(recorder, 0, 50)
    recorder.begin(happening(phase="new"))
    play(recorder, 50, 80)
    clip = recorder.end(happening(phase="end"))
    path = tmp_path / "clips" / clip.name
    assert clip.name == "clip-e1.avi" and clip.picture == "clip-e1.jpg"
    assert read(path) == pytest.approx(list(range(29, 80)), abs=1)  # two seconds before, three during and after
    assert clip.bytes == path.stat().st_size and clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert clip.seconds == pytest.approx(5.1)
    assert cv2.imread(str(tmp_path / "clips" / clip.picture)).mean() == pytest.approx(49, abs=1)
    assert all(file.stat().st_mode & 0o077 == 0 for file in (path, path.with_suffix(".jpg")))
    assert recorder.counts["clips"] == 1 and not list((tmp_path / "clips").glob(".*.part"))


@pytest.mark.parametrize("rate", [2.5, 10, 12.7, 29.97])
def test_what_ffmpeg_says_of_a_clip(make, tmp_path, rate):
    """Codec, size, length and rate as they were, and each picture to the bit."""
    recorder = make(rate=100.0, quality=90)
    play(recorder, 0, 3, noise, rate)
    recorder.begin(happening())
    play(recorder, 3, 20, noise, rate)
    clip = recorder.end(happening())
    with av.open(str(tmp_path / "clips" / clip.name)) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "mjpeg" and (stream.width, stream.height) == (128, 96)
        assert stream.frames == 20 and stream.average_rate == pytest.approx(Fraction(rate), rel=1e-3)
        assert float(stream.duration * stream.time_base) == pytest.approx(clip.seconds, abs=1e-3) == 20 / rate
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    encoded = [
        cv2.imencode(".jpg", noise(n)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for n in range(20)
    ]
    assert packets == encoded
    with av.open(str(tmp_path / "clips" / clip.name)) as container:
        assert len(list(container.decode(video=0))) == 20
        container.seek(int(10 / rate * 1e6), backward=True)
        assert next(container.decode(video=0)).pts <= 10  # the index leads somewhere


def test_sizes_of_the_file_are_right(make, tmp_path):
    """The lengths of RIFF and its lists, by the specification: walked to the end."""
    recorder = make()
    play(recorder, 0, 5, noise)
    recorder.begin(happening())
    clip = recorder.end(happening())
    data = (tmp_path / "clips" / clip.name).read_bytes()

    def walk(start, end):
        while start < end:
            size = int.from_bytes(data[start + 4 : start + 8], "little")
            yield data[start : start + 4], start + 8, size
            start += 8 + size + size % 2
        assert start == end

    ((name, start, _),) = walk(0, len(data))
    assert name == b"RIFF" and data[start : start + 4] == b"AVI "
    (_, _, _), (_, movi, movi_size), (name, index, index_size) = walk(start + 4, len(data))
    assert data[movi : movi + 4] == b"movi" and movi + 4 == HEADER and name == b"idx1" and index_size == 16 * 5
    chunks = list(walk(movi + 4, movi + movi_size))
    entries = [data[i : i + 16] for i in range(index, index + index_size, 16)]
    for (name, place, size), entry in zip(chunks, entries, strict=True):
        assert entry[:4] == name == b"00dc" and data[place : place + 2] == b"\xff\xd8"
        assert int.from_bytes(entry[8:12], "little") == place - 8 - movi
        assert int.from_bytes(entry[12:], "little") == size


def test_the_longest_clip(make, tmp_path):
    """Whole before its event ends."""
    recorder = make(longest=3.0)
    play(recorder, 0, 30)
    recorder.begin(happening())
    play(recorder, 30, 45)
    assert (tmp_path / "clips/clip-e1.avi").exists()
    play(recorder, 45, 200)
    clip = recorder.end(happening())
    assert clip.seconds == pytest.approx(3.1) and len(read(tmp_path / "clips" / clip.name)) == 31


def test_fewer_pictures_than_frames(make, tmp_path):
    recorder = make(rate=10.0)
    play(recorder, 0, 90, rate=30)
    recorder.begin(happening())
    play(recorder, 90, 150, rate=30)
    clip = recorder.end(happening())
    assert len(read(tmp_path / "clips" / clip.name)) in (40, 41) and clip.seconds == pytest.approx(4, abs=0.15)


def test_the_ring_is_bounded_in_bytes(make, tmp_path):
    recorder = make(before=7.0, ring=200_000, quality=95)
    play(recorder, 0, 60, noise)
    kept = recorder._cameras["yard"]
    assert 150_000 < sum(len(jpeg) for _, jpeg in kept.ring) == kept.bytes <= 200_000
    recorder.begin(happening())
    clip = recorder.end(happening())
    assert len(read(tmp_path / "clips" / clip.name)) == len(kept.ring)


def test_the_peak(make, tmp_path):
    recorder = make()
    play(recorder, 0, 10)
    recorder.begin(happening(score=1.0))
    for number, score in [(20, 2.0), (30, 5.0), (40, 3.0), (45, None)]:
        play(recorder, number - 5, number)
        recorder.update(happening(score=score))
    clip = recorder.end(happening())
    assert cv2.imread(str(tmp_path / "clips" / clip.picture)).mean() == pytest.approx(29, abs=1)


def test_several_events_and_cameras_at_once(make, tmp_path):
    recorder = make()
    play(recorder, 0, 20)
    play(recorder, 100, 120, camera="door")
    recorder.begin(happening("a"))
    play(recorder, 20, 30)
    recorder.begin(happening("b"))
    recorder.begin(replace(happening("c"), camera="door"))
    play(recorder, 30, 40)
    play(recorder, 120, 130, camera="door")
    found = [recorder.end(e) for e in (happening("a"), happening("b"), replace(happening("c"), camera="door"))]
    first = [read(tmp_path / "clips" / clip.name)[0] for clip in found]
    assert first == pytest.approx([0, 9, 100], abs=1) and len({clip.name for clip in found}) == 3


def test_each_camera_in_its_thread(make, tmp_path):
    recorder = make(budget=100_000)

    def run(name):
        for number in range(5):
            happened = replace(happening(f"{name}{number}"), camera=name)
            play(recorder, 20 * number, 20 * number + 10, camera=name)
            recorder.begin(happened)
            play(recorder, 20 * number + 10, 20 * number + 20, camera=name)
            clip = recorder.end(happened)
            assert clip is not None

    threads = [threading.Thread(target=run, args=(f"camera {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.counts["clips"] == 20
    files = list((tmp_path / "clips").glob("clip-*"))
    assert sum(path.stat().st_size for path in files) <= 100_000
    assert len({path.stem for path in files}) == 20 - recorder.counts["deleted"]


def test_events_without_a_clip(make):
    recorder = make()
    recorder.begin(happening())  # before any frame
    assert recorder.end(happening()) is None
    play(recorder, 0, 10)
    assert recorder.end(happening("never begun")) is None
    for number in range(20):
        recorder.begin(happening(f"e{number}"))
    assert recorder.counts["skipped"] == 4


def test_names_never_lead_elsewhere_nor_replace_a_clip(make, tmp_path):
    recorder = make()
    play(recorder, 0, 5)
    names = []
    for name in ("../../x", "../../x", ".", "ü/ö", "x" * 200, "x" * 199):
        recorder.begin(happening(name))
        names.append(recorder.end(happening(name)).name)
    assert len(set(names)) == 6 and all((tmp_path / "clips" / name).is_file() for name in names)
    before = {path.name for path in (tmp_path / "clips").iterdir()}
    recorder = make()
    play(recorder, 0, 5)
    recorder.begin(happening("../../x"))
    assert recorder.end(happening("../../x")).name not in before


def test_a_camera_whose_frames_change(make, tmp_path):
    """In size, and in a clock that goes back: what is written stays readable, and as long as it was."""
    recorder = make()
    play(recorder, 0, 10)
    recorder.begin(happening())
    play(recorder, 10, 20, lambda number: picture(number, (80, 80)))
    play(recorder, 0, 10)
    clip = recorder.end(happening())
    assert read(tmp_path / "clips" / clip.name) == pytest.approx([*range(20), *range(10)], abs=1)
    assert clip.seconds == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"folder": ""}, "folder = '': must be a non-empty string"),
        ({"before": -1}, "before = -1: must be a finite number of at least 0"),
        ({"after": 301}, "after = 301: must be"),
        ({"longest": 0}, "longest = 0: must be"),
        ({"longest": 5}, "longest = 5: must be above before, which is 5"),
        ({"rate": 0}, "rate = 0: must be"),
        ({"rate": float("nan")}, "rate = nan: must be"),
        ({"quality": 0}, "quality = 0: must be"),
        ({"quality": True}, "quality = True: must be"),
        ({"ring_mb": 0}, "ring_mb = 0: must be"),
        ({"budget_mb": 0.5}, "budget_mb = 0.5: must be a whole number"),
        ({"size": 1}, "size: unknown field"),
    ],
)
def test_wrong_settings(tmp_path, values, said):
    with pytest.raises(UserError) as caught:
        Fields(tmp_path / "site.json", values, "clips.").parsed(parse)
    assert one_line(caught).startswith(f"{tmp_path / 'site.json'}: clips.{said}")


def test_settings(tmp_path):
    found = Fields(tmp_path / "site.json", {"longest": 30, "budget_mb": 10}, "clips.").parsed(parse)
    assert found == Settings(tmp_path / "clips", 5, 5, 30, 15, 80, 32 << 20, 10 << 20)


def test_an_index_that_does_not_fit_costs_the_last_pictures(tmp_path):
    """A disk that is full to the last byte: what can be written is a whole file."""

    class Full(AviFile):
        room = 100_000

        def _write(self, place, data):
            if place + len(data) > self.room:
                super()._write(place, data[: max(0, self.room - place)])
                raise OSError(28, "No space left on device")
            super()._write(place, data)

    file = Full(tmp_path / "a.avi", 64, 48)
    with pytest.raises(OSError):
        for number in range(10_000):
            file.add(cv2.imencode(".jpg", picture(number))[1].tobytes())
    added = file.frames
    file.finish(0.1)
    assert 0 < file.frames < added and len(read(tmp_path / "a.avi")) == file.frames
    assert (tmp_path / "a.avi").stat().st_size == file.bytes <= 100_000
