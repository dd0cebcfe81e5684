"""Downloads that go on where they stopped, and archives that try to write elsewhere."""

import io
import re
import socket
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import numpy as np
import pytest

from edge.errors import UserError
from stages.fetch import archive, download

BODY = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


@contextmanager
def serve(ranges=True, cuts=(), status=None, chunked=False):
    """An HTTP server of BODY; the n-th answer ends after cuts[n] bytes. Yields its address and the ranges asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
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
                self.send_header("Content-Length", str(len(rest)))
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
        file = download.fetch(url)
        assert file.read_bytes() == BODY and file.name == "set.zip" and not parts()
        assert download.fetch(url) == file and asked == [None]
        assert download.fetch(url + "?2") != file  # another address, another file


def test_cut_connection_goes_on_by_range():
    with serve(cuts=[1_000_000, 500_000]) as (url, asked):
        assert download.fetch(url).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_partial_file_survives_the_run_and_the_next_run_goes_on():
    with serve(cuts=[400_000] * 3) as (url, asked):
        with pytest.raises(UserError, match=r"1200000 bytes are kept in .*set\.zip\.part, run again to go on"):
            download.fetch(url)
        assert parts()[0].read_bytes() == BODY[:1_200_000]
        assert download.fetch(url).read_bytes() == BODY
    assert asked[-1] == "bytes=1200000-" and not parts()


def test_without_ranges_it_starts_anew():
    with serve(ranges=False, cuts=[1_000_000]) as (url, asked):
        assert download.fetch(url).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-"]


def test_cut_chunked_answer_is_noticed():
    with serve(chunked=True, cuts=[1_000_000]) as (url, asked):
        assert download.fetch(url).read_bytes() == BODY
    assert asked == [None, "bytes=1000000-"]


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 5])
def test_partial_file_that_is_whole_or_too_long(length):
    with serve(cuts=[1_000] * 3) as (url, asked):
        with pytest.raises(UserError):
            download.fetch(url)
        parts()[0].write_bytes((BODY + b"extra")[:length])
        assert download.fetch(url).read_bytes() == BODY
    assert asked[3] == f"bytes={length}-"


def test_http_error_names_address_and_code():
    with serve(status=404) as (url, asked), pytest.raises(UserError, match=r"set\.zip: HTTP 404 .*data\.path"):
        download.fetch(url)
    assert len(asked) == 1
    with serve(status=503) as (url, asked), pytest.raises(UserError, match="HTTP 503"):
        download.fetch(url)
    assert len(asked) == download.ATTEMPTS


def test_no_server_no_answer_no_scheme(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match="check the network"):
            download.fetch(f"http://127.0.0.1:{port}/a")
        silent.listen()
        monkeypatch.setattr(download, "TIMEOUT", 0.2)
        with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
            download.fetch(f"http://127.0.0.1:{port}/a")
    for url in ("ftp://x/a", "file:///etc/passwd", "nonsense"):
        with pytest.raises(UserError, match=r"data\.url"):
            download.fetch(url)


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def make_tar(path, members, mode="w:xz"):
    with tarfile.open(path, mode) as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


def everything(parts):
    return PurePosixPath(*parts)


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_tar, "a.tar.xz")])
def test_extract_writes_what_is_wanted(tmp_path, make, name):
    path = make(tmp_path / name, {"x/a.txt": b"1", "x/sub/b.txt": b"2", "y/c.txt": b"3"})
    archive.extract(path, tmp_path / "out", lambda parts: everything(parts[1:]) if parts[0] == "x" else None)
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert files == {"a.txt", "sub/b.txt"} and (tmp_path / "out/sub/b.txt").read_bytes() == b"2"


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_tar, "a.tar.xz")])
@pytest.mark.parametrize("evil", ["../evil", "x/../../evil", "/evil", "..\\evil"])
def test_names_outside_are_refused(tmp_path, make, name, evil):
    path = make(tmp_path / name, {"x/fine": b"1", evil: b"2"})
    with pytest.raises(UserError, match="outside itself"):
        archive.extract(path, tmp_path / "deep" / "out", everything)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        info = tarfile.TarInfo("out")
        info.type, info.linkname = kind, "../.."
        out.addfile(info)
    with pytest.raises(UserError, match="link or device"):
        archive.extract(tmp_path / "a.tar", tmp_path / "into", everything)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    make_zip(tmp_path / "a.zip", {info: b"/etc"})
    with pytest.raises(UserError, match="link or device"):
        archive.extract(tmp_path / "a.zip", tmp_path / "into", everything)


@pytest.mark.parametrize("name, mode", [("a.tar.xz", "w:xz"), ("a.tar.gz", "w:gz"), ("a.tar", "w"), ("a.zip", None)])
def test_broken_archives_are_one_clear_error(tmp_path, name, mode):
    members = {f"x/{i}": BODY[i * 1000 : i * 1000 + 50_000] for i in range(4)}
    path = make_tar(tmp_path / name, members, mode) if mode else make_zip(tmp_path / name, members)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>not found</html>" * 50):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a whole archive"):
            archive.extract(path, tmp_path / "out", everything)


def test_member_where_a_folder_must_be(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": b"1", "x/y": b"2"})
    with pytest.raises(UserError, match="not a whole archive"):
        archive.extract(path, tmp_path / "out", everything)
