"""What the device's end of an upload keeps and removes, without a network: never what is the user's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from hardware_runners.runner.transports import replies

PROGRAM = (ROOT / "hardware_runners/runner/remote/receive.py").read_text()
HASH = "0123456789abcdef0123"
OLD = 40 * 86400


def receive(home: Path, folder: str) -> dict:
    """The first answer when a device is asked for no files."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({"folder": folder, "names": []}).encode() + b"\n",
        cwd=home,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    mark, _, answer = done.stdout.partition(replies.MARK)
    assert not mark
    return json.loads(answer)


def old(path: Path) -> Path:
    """A folder with a file that nobody used for 40 days."""
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    os.utime(path, (0, path.stat().st_mtime - OLD))
    return path


@pytest.fixture
def home(tmp_path) -> Path:
    """The home of a user who has folders with names like ours."""
    for name in ("model-railway", "code-2019", f"model-{HASH}", ".tmp-999999999", ".tmp-notes", "pictures-of-cats"):
        old(tmp_path / "home" / name)
    (tmp_path / "home/link").symlink_to(".")
    return tmp_path / "home"


@pytest.mark.parametrize("folder", [".", "", "/", "~", "..", "a/..", "link", "./", "HOME", "/tmp"])
def test_a_folder_that_is_not_ours_is_refused_and_left_alone(home, folder):
    before = sorted(home.parent.rglob("*"))
    reply = receive(home, str(home) if folder == "HOME" else folder)
    assert "`folder`" in reply["error"] and "\n" not in reply["error"]
    assert sorted(home.parent.rglob("*")) == before


def test_a_folder_with_other_files_is_refused(home):
    kept = old(home / "work" / f"model-{HASH}")
    (home / "work/thesis.txt").write_text("x")
    assert "it holds other files" in receive(home, "work")["error"]
    assert kept.is_dir() and not (home / "work/.edge-vision").exists()


def test_a_folder_that_anybody_may_write_to_is_refused(home):
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    assert "others may write to it" in receive(home, "open")["error"]


def test_only_what_is_ours_and_old_is_removed(home):
    cache = home / ".cache/edge-vision"
    assert receive(home, ".cache/edge-vision")["home"] == str(cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    gone = [old(cache / name) for name in (f"model-{HASH}", f"code-{HASH}", f"pictures-{HASH}", ".tmp-999999999")]
    kept = [
        old(cache / name) for name in ("model-mine", f"model-{HASH}0", "code-1", ".tmp-1", ".tmp-x", "state", "data")
    ]
    elsewhere = old(home / "elsewhere")
    (cache / f"code-{HASH[::-1]}").symlink_to(elsewhere)
    assert receive(home, ".cache/edge-vision")["missing"] == []
    assert not [path for path in gone if path.exists()]
    assert all((path / "file").is_file() for path in [*kept, elsewhere])


def test_a_folder_of_a_version_without_mark_is_taken_over(home):
    gone = old(home / f"cache/model-{HASH}")
    assert receive(home, "cache")["missing"] == [] and not gone.exists()
    assert (home / "cache/.edge-vision").is_file()
