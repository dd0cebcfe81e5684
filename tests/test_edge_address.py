"""No password of an address is shown."""

import json

import cv2
import numpy as np
import pytest
import tiny_models

from edge.__main__ import main
from edge.address import masked
from edge.app import source
from edge.errors import UserError
from stages.fetch import download

ADDRESSES = [
    "rtsp://admin:Secret1@127.0.0.1:9/live",
    "RTSP://admin:Secret1@127.0.0.1:9/live",
    "rtsp://admin:Secr@Secret1@127.0.0.1:9/live",
    "rtsp://admin:a/b?c#Secret1@127.0.0.1:9/live",
    "rtsp://Secret1@127.0.0.1:9/live",
    "http://admin:Secret1 with 'blanks'@127.0.0.1:9/a.mp4",
    "http://127.0.0.1:9/video.cgi?user=admin&pwd=Secret1&fps=5",
    "http://127.0.0.1:9/video.cgi?fps=5&access_token=Secret1",
    "rtsp:/admin:Secret1@127.0.0.1/live",
    "admin:Secret1@127.0.0.1/live",
    "file:///admin:Secret1@127.0.0.1/live",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_is_masked_and_the_host_stays(address):
    shown = masked(address)
    assert "Secret1" not in shown and "admin" not in shown and "127.0.0.1" in shown and masked(shown) == shown
    assert "Secret1" not in masked(f"{address}: can't be reached")


@pytest.mark.parametrize(
    "text", ["a.mp4", "0", "pictures/a@2x.png", "C:/a@b.mp4", "rtsp://camera:554/live?fps=5", "a.png: can't be read"]
)
def test_what_holds_no_password_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("place", ["input", "model", "extra"])
def test_errors_of_the_command_show_no_password(capfd, address, place):
    words = {
        "input": ["video", str(tiny_models.build() / "int8"), address],
        "model": ["video", address, "a.mp4"],
        "extra": ["video", "model", "a.mp4", address],
    }[place]
    try:
        assert main(words) == 1
    except SystemExit as end:
        assert end.code == 2 and place == "extra"
    out, err = capfd.readouterr()
    assert "error: " in err and "Secret1" not in out + err


def test_the_summary_shows_no_password(monkeypatch, capsys):
    class Camera:
        def __init__(self, *_):
            self.isOpened, self.release, self.grab = lambda: True, lambda: None, lambda: True

        def get(self, _):
            return 0.0

        def retrieve(self):
            return True, np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(source, "BACKOFF", (0.01, 0.01))
    command = ["video", str(tiny_models.build() / "int8"), ADDRESSES[0], "--seconds", "0.1"]
    for form in ([], ["--json"]):
        assert main([*command, *form]) == 0
        out, err = capsys.readouterr()
        assert "rtsp://***@127.0.0.1:9/live" in out and "Secret1" not in out + err
    assert json.loads(out)["input"] == "rtsp://***@127.0.0.1:9/live"


@pytest.mark.parametrize(
    "address", ["http://a:Secret1@127.0.0.1:9/a.zip", "ftp://a:Secret1@x/a", "http://a:Secret1@x:y/a"]
)
def test_errors_of_a_download_show_no_password(monkeypatch, tmp_path, address):
    monkeypatch.setattr(download, "FOLDER", tmp_path)
    monkeypatch.setattr(download, "PAUSE", 0)
    with pytest.raises(UserError) as caught:
        download.fetch(address, listed=True)
    assert "Secret1" not in str(caught.value)
