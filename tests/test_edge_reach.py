"""Why a video can't be opened, written or looked at: the line names the cause."""

import errno
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models
from test_edge_outputs import refused
from test_edge_source import Camera
from videos import write

from edge.__main__ import main
from edge.app import overlay, reach, stream, video
from edge.app.source import Source
from edge.app.writer import Writer
from edge.errors import UserError
from edge.preprocess import find_pictures


@pytest.fixture(scope="module")
def model():
    return str(tiny_models.build() / "int8")


# sources


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none.mp4", "none.mp4: no such video file"),
        ("file/x.mp4", "file/x.mp4: no such video file"),
        ("", "'': no such video file"),
        ("empty.mp4", "empty.mp4: an empty file"),
        ("file", "file: not a video that OpenCV reads"),
        ("folder", "folder: a folder; give a video file"),
        ("pipe", "pipe: a pipe; give a video file or an address"),
        ("x" * 300, "can't be opened: File name too long"),
        ("/dev/null", "/dev/null: a device, but no camera"),
        ("/dev/video99", "/dev/video99: no such device; is the camera plugged in?"),
        ("/dev/v4l/by-id/none", "/dev/v4l/by-id/none: no such device; is the camera plugged in?"),
        ("99", "99: no camera is plugged in as /dev/video99"),
        ("9" * 5000, "a camera's number is at most 9999"),
        ("http://[::1", "http://[::1: no address that can be opened: Invalid IPv6 URL"),
        ("rtsp://user:secret@[::1/a", "rtsp://***@[::1/a: no address that can be opened: Invalid IPv6 URL"),
        ("https://a\u2100b/x.mp4", "invalid characters"),
        (
            "http://300.1.1.1/x.mp4",
            "no address that can be opened: 300.1.1.1 is no IPv4 address",
        ),
        ("rtsp://a..b/x", "rtsp://a..b/x: no address that can be opened: "),
        ("rtsp://10.0.0.5:99999/x", "no address that can be opened: Port out of range 0-65535"),
        ("rtsp://10.0. 0.5/x", "no address that can be opened: a host's name has"),
        ("rtsp://10.0.0\n.5/x", "no address that can be opened: it has a control character"),
        ("rtsp:///x", "rtsp:///x: an address without a host; must be rtsp://HOST[:PORT][/PATH]"),
        ("udp://239.0.0.1", "udp://239.0.0.1: an address without a port; must be udp://HOST:PORT"),
        (
            "rtps://127.0.0.1:9/",
            "rtps://127.0.0.1:9/: no address of a stream that OpenCV reads; must begin with",
        ),
        ("rtsp://127.0.0.1:9/", "camera or stream is not reachable, or of a kind that OpenCV does not read"),
        ("http://127.0.0.1:9/mail@", "camera or stream is not reachable, or of a kind that OpenCV does not read"),
        ("file:///none.mp4", "file:///none.mp4: no such video file"),
    ],
)
def test_what_is_no_video_says_what_it_is(model, here, capsys, what, message):
    (here / "empty.mp4").write_bytes(b"")
    (here / "file").write_text("words")
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")
    refused(capsys, ["video", model, what], message)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "no permission for /dev/video3; add the user to the group",
        ),
        (OSError(errno.EBUSY, "Device or resource busy"), "/dev/video3 can't be opened: Device or resource busy"),
        (OSError(errno.ENXIO, "No such device or address"), "/dev/video3 can't be opened: No such device or address"),
        (None, "/dev/video3 is in use by another program, or no camera that OpenCV reads"),
    ],
)
@pytest.mark.parametrize("given", ["3", "/dev/video3", "/dev/v4l/by-id/usb-cam"])
def test_a_camera_that_is_there_says_why_it_can_not_be_used(monkeypatch, given, problem, message):
    """The device is the camera of its number, also by a link to it."""

    def opened(path, flags):
        if problem:
            raise problem
        return os.dup(1)

    exists, opened_as = os.path.exists, []
    monkeypatch.setattr(reach.os.path, "exists", lambda path: str(path).startswith("/dev/v") or exists(path))
    monkeypatch.setattr(reach.os.path, "realpath", lambda path: "/dev/video3" if path.startswith("/dev/v") else path)
    monkeypatch.setattr(reach.os, "open", opened)
    camera = type("Camera", (Camera,), {"lives": []})
    with pytest.raises(UserError) as caught:
        Source(given, open=lambda where: opened_as.append(where) or camera())
    assert str(caught.value).startswith(f"{given}: ") and message in str(caught.value) and opened_as == ["3"]


def test_a_camera_is_opened_by_its_device(monkeypatch):
    monkeypatch.setattr(reach.os.path, "exists", lambda path: True)
    camera = type("Camera", (Camera,), {"lives": [[1, 2]]})
    reader = Source("/dev/video0", open=lambda where: camera() if where == "0" else None)
    assert reader.live and reader.remote


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_the_user_has_no_rights_for(model, monkeypatch, capsys):
    """As another user: a file, a folder, a model and an output that are forbidden."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        here.chmod(0o755)  # pytest's own folder is closed to other users
        monkeypatch.chdir(here)
        write(here / "in.avi", [9] * 5)
        shutil.copy(here / "in.avi", here / "mine.avi")
        (here / "closed").mkdir()
        for name in ("model", "forbidden"):
            shutil.copytree(model, here / name)
        for name in ("mine.avi", "closed", "forbidden/model.json"):
            (here / name).chmod(0)
        os.seteuid(65534)
        try:
            for words, message in (
                (["video", "model", "mine.avi"], "mine.avi: can't be opened: Permission denied"),
                (["video", "model", "closed/in.avi"], "closed/in.avi: can't be opened: Permission denied"),
                (["video", "model", "in.avi", "--output", "out.avi"], "out.avi: can't be written: Permission denied"),
                (["video", "model", "in.avi", "--truth", "mine.avi"], "mine.avi: can't be read: Permission denied"),
                (["predict", "model", "closed/a.png"], "closed/a.png: Permission denied"),
                (["predict", "model", "closed"], "closed: holds no picture"),
                (["info", "forbidden"], "forbidden/model.json: can't be read: Permission denied"),
            ):
                refused(capsys, words, message)
        finally:
            os.seteuid(0)
            monkeypatch.undo()


# what OpenCV raises


@pytest.mark.parametrize("call", ["open", "isOpened"])
def test_a_capture_that_raises_is_one_line(call):
    class Broken(Camera):
        def isOpened(self):
            raise cv2.error("x.cpp:9: error: (-2)\nUnknown")

    def fails(_):
        raise cv2.error("x.cpp:9: error: (-2)\nUnknown")

    with pytest.raises(UserError, match=r"^0: can't be opened: ") as caught:
        Source("0", open=fails if call == "open" else Broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", ["grab", "retrieve"])
def test_a_frame_that_raises_is_a_broken_one(call):
    class Broken(Camera):
        lives = [[1, 2, 3, 4]]  # noqa: RUF012
        count = 0

        def grab(self):
            return super().grab() and self.fails("grab")

        def retrieve(self):
            self.fails("retrieve")
            return super().retrieve()

        def fails(self, name):
            type(self).count += name == call
            if name == call and self.count == 2:
                raise cv2.error("corrupt")
            return True

    stop = threading.Event()
    reader = Source("0", open=Broken)
    seen = []
    for _, _, frame in reader.frames(stop):
        seen.append(int(frame[0, 0, 0]))
        if len(seen) == 3:
            stop.set()
    assert seen == [1, 3, 4] and reader.counts["corrupt"] == 1


def test_opencv_in_a_thread_is_one_line(model, here, capsys, monkeypatch):
    def fails(*_, **__):
        raise cv2.error("resize.cpp:9: error: (-215:Assertion failed)\n!ssize.empty()")

    write(here / "in.avi", [9] * 5)
    monkeypatch.setattr(stream.Motion, "__call__", fails)
    refused(capsys, ["video", model, "in.avi", "--motion", "4"], "in.avi: a frame that OpenCV can't work on: ")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "The function is not implemented. Rebuild the library",
            "this OpenCV has no window; pip install opencv-python",
        ),
        ("Can't initialize GTK backend", "no window can be opened (Can't initialize GTK backend); use --output"),
    ],
)
def test_a_window_that_can_not_be_opened_says_why(model, here, capsys, monkeypatch, said, message):
    def fails(*_):
        raise cv2.error(said)

    write(here / "in.avi", [9] * 5)
    monkeypatch.setattr(video.cv2, "imshow", fails)
    refused(capsys, ["video", model, "in.avi", "--show"], message)


# outputs


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "the name of a video must end in .mp4 or .avi"),
        ("none/o.mp4", "the folder none does not exist"),
        ("in.avi/o.mp4", "the folder in.avi is no folder"),
        ("pipe.mp4", "pipe.mp4: can't be written: not a regular file"),
        ("folder.mp4", "folder.mp4: can't be written: Is a directory"),
        ("x" * 300 + ".mp4", "can't be written: File name too long"),
    ],
)
def test_an_output_that_can_not_be_written(model, here, capsys, output, message):
    write(here / "in.avi", [9] * 5)
    (here / "folder.mp4").mkdir()
    os.mkfifo(here / "pipe.mp4")
    refused(capsys, ["video", model, "in.avi", "--output", output], message)


@pytest.mark.parametrize("folder", ["", "file", "pipe"])
def test_overlays_into_what_is_no_folder(model, here, capsys, folder):
    cv2.imwrite("in.png", np.zeros((20, 20, 3), np.uint8))
    (here / "file").write_text("mine")
    os.mkfifo(here / "pipe")
    refused(capsys, ["predict", model, "in.png", "--overlay", folder], "not a folder; choose one for overlays")
    assert (here / "file").read_text() == "mine"


def test_a_video_that_is_removed_while_it_is_written(here):
    with pytest.raises(UserError, match=r"a\.avi: was removed while it was written"), Writer("a.avi", 25, True) as out:
        out.put(np.zeros((48, 64, 3), np.uint8))
        for _ in range(100):
            out.put(np.zeros((48, 64, 3), np.uint8))
        os.unlink("a.avi")


@pytest.mark.parametrize("size", [(1, 1), (4000, 1), (1, 4000), (60000, 1), (5, 3)])
def test_an_overlay_of_a_narrow_picture_does_not_fill_the_memory(model, here, size):
    cv2.imwrite("in.png", np.zeros((*size, 3), np.uint8))
    assert main(["predict", model, "in.png", "--overlay", "out"]) == 0
    drawn = cv2.imread("out/in.png")
    assert drawn.shape[0] <= 1.1 * max(size[0], overlay.MOST_HEIGHT) and drawn.size < 2e7


# folders of pictures


def test_folders_in_each_other_are_searched_however_deep(here):
    at = os.open(here, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python calls itself
        os.mkdir("d", dir_fd=at)
        inside = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inside
    os.close(at)
    (here / "d/d/a.png").write_bytes(b"")
    try:
        found, left_out = find_pictures(here, deep=True)
        assert found == [here / "d/d/a.png"] and left_out == ""
    finally:
        subprocess.run(["rm", "-rf", here / "d"], check=True)


def test_what_can_not_be_read_is_counted(here, monkeypatch):
    scan = os.scandir
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "a.png").write_bytes(b"")

    def forbidden(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert find_pictures(here, deep=True) == ([here / "a/a.png"], "1 folders that can't be read")
