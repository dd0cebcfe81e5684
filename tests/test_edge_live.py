"""Which sources end and are judged frame by frame, and which are cameras that come back."""

import contextlib
import http.server
import json
import os
import threading

import pytest
import tiny_models
from test_edge_outputs import refused
from videos import write

from edge.__main__ import main
from edge.app.source import Source, is_live, local_file
from edge.app.writer import Writer


@pytest.fixture(scope="module")
def model():
    return str(tiny_models.build() / "int8")


@pytest.mark.parametrize(
    "where, frames, live",
    [
        ("a.mp4", 0, False),
        ("0", 0, True),
        ("12", 0, True),
        ("rtsp://camera/live.mp4", 900, True),  # a camera may claim a length
        ("RTSPS://camera/live", 0, True),
        ("udp://@:1234", 0, True),
        ("http://camera/video.cgi", -9.2e18, True),
        ("http://camera/live.m3u8", 0, True),
        ("http://server/film.m3u8", 900, False),
        ("http://server/a.mp4", 900, False),
        ("https://server/A.MP4?key=1#t=5", -9.2e18, False),
        ("https://user:p/w@server/a.mkv", 0, False),
        ("HTTP://server/download", 900, False),
    ],
)
def test_what_is_live(where, frames, live):
    assert is_live(where, frames) == live


@pytest.mark.parametrize(
    "where, path",
    [
        ("a.mp4", "a.mp4"),
        ("file:///a/b.mp4", "/a/b.mp4"),
        ("FILE://localhost/a/b.mp4", "/a/b.mp4"),
        ("file:///a/one%20two%25.mp4", "/a/one two%.mp4"),
        ("one%20two.mp4", "one%20two.mp4"),
        ("rtsp://file://x", "rtsp://file://x"),
    ],
)
def test_paths_in_addresses(where, path):
    assert local_file(where) == path


def test_a_file_address_is_a_file(model, here, capsys):
    path = write(here / "one two.avi", [9] * 30)
    address = path.as_uri()
    assert "%20" in address
    assert main(["video", model, address, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ended_by"] == "end of video"
    assert summary["frames"]["in"] == summary["frames"]["out"] == 30 and summary["frames"]["reconnects"] == 0
    refused(capsys, ["video", model, address, "--output", path], "is an input")
    refused(capsys, ["video", model, "file:///none.mp4"], "/none.mp4: no such video file")


@contextlib.contextmanager
def served(folder):
    """The files of a folder over HTTP, with ranges, since the index of an MP4 file lies at its end."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = (folder / os.path.basename(self.path)).read_bytes()
            asked = self.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")
            start, end = int(asked[0]), int(asked[1] or len(data) - 1)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            self.send_header("Content-Length", str(end + 1 - start))
            self.end_headers()
            with contextlib.suppress(OSError):  # a player hangs up in order to seek
                self.wfile.write(data[start : end + 1])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_video_on_a_web_server_ends_and_loses_nothing(model, here, capsys, name):
    with Writer(here / name, 25, True) as writer:
        for frame in Source(write(here / "in.avi", range(90))).frames(threading.Event()):
            writer.put(frame[2])
    with served(here) as address:
        assert main(["video", model, f"{address}/{name}", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        frames = summary["frames"]
        assert summary["ended_by"] == "end of video" and frames["in"] == frames["out"] == 90
        assert frames["reconnects"] == frames["corrupt"] == frames["dropped"] == 0
        reader = Source(f"{address}/{name}", loop=True)
        stop, seen = threading.Event(), 0
        for _ in reader.frames(stop):
            seen += 1
            if seen == 200:
                stop.set()
        assert seen == 200 and reader.counts["reconnects"] == 0
    refused(capsys, ["video", model, f"{address}/{name}"], "camera or stream is not reachable")
