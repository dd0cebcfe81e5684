"""Downloads that go on where they stopped, and archives that try to write elsewhere."""

import io
import re
import socket
import tarfile
import threading
import urllib.request
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from stages.fetch import archive, download

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


def make_zip(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as out:
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


KINDS = {
    "a.tar": "w", "a.tar.gz": "w:gz", "a.tar.xz": "w:xz", "a.tar.bz2": "w:bz2",
    "stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED, "bzip2.zip": zipfile.ZIP_BZIP2,
    "lzma.zip": zipfile.ZIP_LZMA,
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_damage_anywhere_is_one_line_or_harmless(tmp_path, name):
    """Bytes turned or cut out in headers, data and directory, whatever Python raises then."""
    rng = np.random.default_rng(len(name))
    members = {f"x/{i}.txt": (b"%d line\n" % i) * 2000 + BODY[:500] for i in range(5)}
    make = make_tar if name.startswith("a.tar") else make_zip
    path = make(tmp_path / name, members, KINDS[name])
    whole, refused = path.read_bytes(), 0
    for case in range(60):
        damaged = bytearray(whole)
        start = int(rng.integers(len(whole))) if case % 3 else int(rng.integers(min(600, len(whole))))
        if case % 2:
            for at in rng.integers(start, min(start + 300, len(whole)), 8):
                damaged[at] = rng.integers(256)
        else:
            damaged[start : start + int(rng.integers(1, 200))] = bytes(int(rng.integers(100)))
        path.write_bytes(damaged)
        try:
            archive.extract(path, tmp_path / "out", everything)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 10


@pytest.mark.parametrize("name", ["a.tar.bz2", "bzip2.zip"])
def test_a_damaged_bzip2_member_is_not_a_whole_archive(tmp_path, name):
    make = make_tar if name.startswith("a.tar") else make_zip
    path = make(tmp_path / name, {"x": BODY[:400_000]}, KINDS[name])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a whole archive \(.*[Ii]nvalid"):
        archive.extract(path, tmp_path / "out", everything)


def bomb(tmp_path, kind):
    """An archive that says or unpacks to more than the limits that the test sets: 4 MiB and 20 members."""
    if kind == "zip":
        return make_zip(tmp_path / "a.zip", {"x/big": bytes(5 << 20)}, zipfile.ZIP_DEFLATED)
    if kind == "tar":
        return make_tar(tmp_path / "a.tar.xz", {"x/big": bytes(5 << 20)})
    if kind == "left out":
        return make_tar(tmp_path / "a.tar.xz", {"other/big": bytes(5 << 20), "x/small": b"1"})
    if kind == "many":
        return make_tar(tmp_path / "a.tar.xz", {f"x/{i}": b"1" for i in range(21)})
    if kind == "many in a zip":
        return make_zip(tmp_path / "a.zip", {f"x/{i}": b"1" for i in range(21)})
    if kind == "folders":
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as out:
            for i in range(21):
                info = tarfile.TarInfo(f"x/{i}")
                info.type = tarfile.DIRTYPE
                out.addfile(info)
        return path
    path = tmp_path / "a.tar"  # sparse: a header of GNU tar's, 1 TiB of which one block is data
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        info = tarfile.TarInfo("x/sparse")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "x/sparse"}
        info.pax_headers |= {"GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,1"}
        info.size = 1
        out.addfile(info, io.BytesIO(b"1"))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "left out", "many", "many in a zip", "folders", "sparse"])
def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch, kind):
    path = bomb(tmp_path, kind)
    wanted = lambda parts: everything(parts) if parts[0] == "x" else None  # noqa: E731
    if kind != "sparse":
        archive.extract(path, tmp_path / "all", wanted)
    monkeypatch.setattr(archive, "MAX_BYTES", 4 << 20)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 20)
    with pytest.raises(UserError, match=r"more than .* (GiB unpacked|members); unpack what you need") as caught:
        archive.extract(path, tmp_path / "out", wanted)
    assert one_line(caught)
    assert sum(p.stat().st_size for p in tmp_path.glob("out/**/*") if p.is_file()) <= 4 << 20


def test_a_header_that_fills_the_memory_is_refused(tmp_path):
    """A long name of 2 MiB of zeros, which tarfile would read at once, whatever its size."""
    path = tmp_path / "a.tar.xz"
    with tarfile.open(path, "w:xz") as out:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
        out.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(UserError, match=r"not a whole archive \(a header of 2097152 bytes\)"):
        archive.extract(path, tmp_path / "out", everything)


def test_a_full_disk_is_not_called_a_broken_archive(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": BODY})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        archive.extract(path, tmp_path / "out", everything)
    assert not isinstance(caught.value, UserError)
