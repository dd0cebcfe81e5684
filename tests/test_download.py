"""Downloads that go on where they stopped, and archives that try to write elsewhere."""

import re
import socket
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from stages.fetch import download

BODY = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


@contextmanager
def serve(ranges=True, cuts=(), status=None, chunked=False, location=None, length=None):
    """An HTTP server of BODY; the n-th answer ends after cuts[n] bytes. Yields its address and the ranges asked for.

    location: where it sends every request instead. length: what it says of the length of the rest.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            if location:
                self.send_response(302)
                self.send_header("Location", location)
                self.end_headers()
                return
            if status:
                self.send_error(status)
                return
            start = 0
            match = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") if ranges else None
            if match:
                start = int(match[1])
                if start >= len(BODY):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(BODY)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
            else:
                self.send_response(200)
            rest = BODY[start:]
            if chunked:
                self.protocol_version = "HTTP/1.1"
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(rest)) if length is None else length)
            self.end_headers()
            cut = cuts[len(asked) - 1] if len(asked) <= len(cuts) else None
            sent = rest[:cut]
            if chunked:
                self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n" + (b"" if cut else b"0\r\n\r\n"))
            else:
                self.wfile.write(sent)

        def log_message(self, *args):
            pass

    Handler.protocol_version = "HTTP/1.1" if chunked else "HTTP/1.0"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/set.zip", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def parts():
    return list(download.FOLDER.glob("*/*.part"))


def test_whole_download_is_not_repeated():
    with serve() as (url, asked):
        file = download.fetch(url, listed=True)
        assert file.read_bytes() == BODY and file.name == "set.zip" and not parts()
        assert download.fetch(url, listed=True) == file and asked == [None]
        assert download.fetch(url + "?2", listed=True) != file  # another address, another file


def test_cut_connection_goes_on_by_range():
    with serve(cuts=[1_000_000, 500_000]) as (url, asked):
        assert download.fetch(url, listed=True).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_partial_file_survives_the_run_and_the_next_run_goes_on():
    with serve(cuts=[400_000] * 3) as (url, asked):
        with pytest.raises(UserError, match=r"1200000 bytes are kept in .*set\.zip\.part, run again to go on"):
            download.fetch(url, listed=True)
        assert parts()[0].read_bytes() == BODY[:1_200_000]
        assert download.fetch(url, listed=True).read_bytes() == BODY
    assert asked[-1] == "bytes=1200000-" and not parts()


def test_without_ranges_it_starts_anew():
    with serve(ranges=False, cuts=[1_000_000]) as (url, asked):
        assert download.fetch(url, listed=True).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-"]


def test_cut_chunked_answer_is_noticed():
    with serve(chunked=True, cuts=[1_000_000]) as (url, asked):
        assert download.fetch(url, listed=True).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-"]


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 5])
def test_partial_file_that_is_whole_or_too_long(length):
    with serve(cuts=[1_000] * 3) as (url, asked):
        with pytest.raises(UserError):
            download.fetch(url, listed=True)
        parts()[0].write_bytes((BODY + b"extra")[:length])
        assert download.fetch(url, listed=True).read_bytes() == BODY
    assert asked[3] == f"bytes={length}-"


def test_http_error_names_address_and_code():
    with serve(status=404) as (url, asked), pytest.raises(UserError, match=r"set\.zip: HTTP 404 .*data\.path"):
        download.fetch(url, listed=True)
    assert len(asked) == 1
    with serve(status=503) as (url, asked), pytest.raises(UserError, match="HTTP 503"):
        download.fetch(url, listed=True)
    assert len(asked) == download.ATTEMPTS


def test_no_server_no_answer_no_scheme(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match="check the network"):
            download.fetch(f"http://127.0.0.1:{port}/a", listed=True)
        silent.listen()
        monkeypatch.setattr(download, "TIMEOUT", 0.2)
        with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
            download.fetch(f"http://127.0.0.1:{port}/a", listed=True)
    for url in ("ftp://x/a", "file:///etc/passwd", "nonsense"):
        with pytest.raises(UserError, match=r"data\.url"):
            download.fetch(url, listed=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1", "http://", "https:///x", "https://:80/x", "https://a..b/c", f"https://{'a' * 70}/x",
        "http://x:port/", "http://x:99999999/", "http://x:-1/", "https://127.0.0.1:1/\u00e9", "http://u:secret@[::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_one_line(url):
    with pytest.raises(UserError, match=r"^data\.url = .*: not an (http\(s\) )?address.*; correct it") as caught:
        download.fetch(url, listed=True)
    assert ("secret" not in one_line(caught) and not download.FOLDER.exists()) or not parts()


def test_a_long_address_is_shown_short_and_names_a_short_file():
    with serve() as (url, _):
        file = download.fetch(url + "x" * 3000, listed=True)
    assert file.read_bytes() == BODY and len(file.name) < 200
    with pytest.raises(UserError, match="check the network") as caught:
        download.fetch("http://127.0.0.1:1/" + "x" * 3000, listed=True)
    assert len(one_line(caught)) < 500


def test_what_no_hash_is_known_of_comes_over_https_alone():
    with serve() as (url, asked):
        with pytest.raises(UserError, match=r"data\.url = http://.*: not https, and without a list of hashes"):
            download.fetch(url, listed=False)
        assert asked == []
        assert download.fetch(url, listed=True).read_bytes() == BODY


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_no_redirect_leaves_https_unseen(target):
    """The handler as urllib calls it, since a server of https needs a certificate."""
    request = urllib.request.Request("https://example.org/set.zip")
    with pytest.raises(UserError, match=r"https://example\.org/set\.zip: leads to .*: not https"):
        download.Redirects(False).redirect_request(request, None, 302, "", {}, target)
    kept = download.Redirects(False).redirect_request(request, None, 302, "", {}, "https://example.org/other")
    assert kept.full_url == "https://example.org/other"


def test_a_redirect_is_followed_to_http_and_https_only():
    with serve() as (url, _), serve(location=url) as (first, asked):
        assert download.fetch(first, listed=True).read_bytes() == BODY and len(asked) == 1
    with serve(location="ftp://127.0.0.1/x") as (first, _), pytest.raises(UserError, match="leads to ftp://"):
        download.fetch(first, listed=True)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_download_has_a_largest_size(chunked, monkeypatch):
    """Whether the server says how much it is or not; nothing of it is kept."""
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    with (
        serve(chunked=chunked) as (url, asked),
        pytest.raises(UserError, match=r"set\.zip: more than .* GiB") as caught,
    ):
        download.fetch(url, listed=True)
    assert one_line(caught) and len(asked) == 1 and not parts()


@pytest.mark.parametrize("length", ["many", "-5", "9" * 30])
def test_a_length_that_is_none(length):
    with serve(length=length) as (url, _):
        if length == "9" * 30:
            with pytest.raises(UserError, match="more than 64 GiB"):
                download.fetch(url, listed=True)
        else:
            assert download.fetch(url, listed=True).read_bytes() == BODY
