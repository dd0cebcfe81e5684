"""Lists of hashes: what they verify, and what is said where there is none."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest
from fetching import dataset, fetch, hash_list, magnetic, mask, picture

from edge.errors import UserError
from stages.fetch.sources import mvtec


@pytest.mark.parametrize("source", ["folder", "mvtec", "mtd"])
def test_hashes(here, source):
    if source == "mtd":
        root, listed = here / "bottle", magnetic(here / "bottle")
        files = sorted((root / "MT_Crack/Imgs").iterdir())
    else:
        root = dataset(here / "bottle")
        files = sorted((root / "test/dent").iterdir())
        prefix = "bottle/" if source == "mvtec" else ""
        listed = hash_list(here / "list.sha256", root, sorted(root.rglob("*.png")), prefix)
    fetch(source, path="bottle", hashes=listed)
    total = len(Path(listed).read_text().splitlines())

    original = files[0].read_bytes()
    picture(files[0], 999)
    with pytest.raises(UserError, match=rf"{files[0].name}: different \(1 different of {total} listed files\)"):
        fetch(source, path="bottle", hashes=listed)
    files[0].write_bytes(original)
    extra = shutil.copy(files[0], files[0].with_name("zz" + files[0].suffix))
    if source != "mtd":
        mask(root / "ground_truth/dent/zz_mask.png")
    with pytest.raises(UserError, match=r"zz.*: not in the list \(\d not in the list of"):
        fetch(source, path="bottle", hashes=listed)
    if source != "mtd":
        (root / "ground_truth/dent/zz_mask.png").unlink(missing_ok=True)
    Path(extra).unlink()
    Path(listed).write_text(Path(listed).read_text() + "0" * 64 + "  bottle/gone.png\n")
    with pytest.raises(UserError, match=r"gone\.png: missing \(1 missing of"):
        fetch(source, path="bottle", hashes=listed)


def test_lists_of_hashes_that_are_no_lists(here):
    dataset(here / "bottle")
    Path("empty").write_text("# nothing\n")
    Path("wrong").write_text("deadbeef  a.png\n")
    Path("other").write_text("0" * 64 + "  tile/a.png\n")
    for name, message in (("empty", "is empty"), ("wrong", "wrong:1: not a line"), ("none", "can't be read")):
        with pytest.raises(UserError, match=message):
            fetch("folder", path="bottle", hashes=name)
    with pytest.raises(UserError, match="lists neither files of bottle/ nor the archive"):
        fetch("mvtec", path="bottle", hashes="other")


def test_mtd_mask_missing_from_the_list_too(here):
    listed = magnetic(here / "tiles")
    gone = next((here / "tiles/MT_Crack/Imgs").glob("*.png"))
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name}: missing"):
        fetch("mtd", path="tiles", hashes=listed)
    lines = Path(listed).read_text().splitlines(True)
    Path(listed).write_text("".join(line for line in lines if gone.name not in line))
    with pytest.raises(UserError, match=rf"{gone.name}: the mask of .* is missing"):
        fetch("mtd", path="tiles", hashes=listed)


def test_checksum_of_the_archive(here, monkeypatch):
    dataset(here / "root/bottle")
    with tarfile.open(mvtec.FILE, "w:xz") as out:
        out.add("root", arcname=".")
    digest = hashlib.sha256(Path(mvtec.FILE).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"{mvtec.FILE}: its sha256 is not {mvtec.SHA256}; replace the file"):
        fetch("mvtec", path=mvtec.FILE)
    assert Path(mvtec.FILE).exists()
    Path("list").write_text(f"{digest}  {mvtec.FILE}\n")
    assert len(fetch("mvtec", path=mvtec.FILE, hashes="list")) == 19
    monkeypatch.setattr(mvtec, "SHA256", digest)
    assert len(fetch("mvtec", path=".")) == 19

    downloaded = here / "downloaded" / mvtec.FILE
    downloaded.parent.mkdir()
    downloaded.write_bytes(b"something else")
    monkeypatch.setattr(mvtec.download, "fetch", lambda url, name, listed: downloaded)
    with pytest.raises(UserError, match="removed, run again to download it anew"):
        fetch("mvtec")
    assert not downloaded.exists()
