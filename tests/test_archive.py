"""Archives that try to write elsewhere, are damaged, or fill the disk."""

import io
import tarfile
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from stages.fetch import archive

BODY = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


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
