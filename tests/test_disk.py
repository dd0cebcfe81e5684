"""Files that a power cut leaves alone: in which order they reach the disk, and what stays where that fails."""

import errno
import os

import pytest

from edge import disk


@pytest.fixture
def steps(monkeypatch):
    """What is asked of the disk: ("sync", name) and ("replace", name)."""
    found, fsync, replace = [], os.fsync, os.replace

    def syncing(handle):
        found.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def replacing(one, other):
        found.append(("replace", os.path.basename(other)))
        replace(one, other)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    return found


def test_the_content_is_there_before_the_name_and_the_name_before_the_return(tmp_path, steps):
    (tmp_path / "a").write_bytes(b"before")
    disk.write(tmp_path / "a", b"after")
    assert (tmp_path / "a").read_bytes() == b"after" and os.listdir(tmp_path) == ["a"]
    (first, part), *rest = steps
    assert first == "sync" and part.startswith(".a.") and rest == [("replace", "a"), ("sync", tmp_path.name)]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_what_fails_leaves_what_was_there(tmp_path, monkeypatch, name):
    (tmp_path / "a").write_bytes(b"before")

    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, failing)
    with pytest.raises(OSError):
        disk.write(tmp_path / "a", b"after")
    assert (tmp_path / "a").read_bytes() == b"before" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EOPNOTSUPP, False), (errno.EIO, True)])
def test_a_file_system_that_writes_no_names_is_no_failure(tmp_path, monkeypatch, number, told):
    def failing(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    if told:
        with pytest.raises(OSError):
            disk.sync(tmp_path)
    else:
        disk.sync(tmp_path)
