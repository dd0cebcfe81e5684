"""The supervised split: labelled defects in train, val and test, by type and by whole groups; who sees them."""

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from fetching import dataset, fetch
from test_fetch import brute_force_components

from edge.errors import UserError
from stages.common.dataset import read_index
from stages.fetch.picture import Picture
from stages.fetch.split import split

pytestmark = pytest.mark.usefixtures("here")
TYPES = ["good"] * 6 + ["dent", "dent", "hole"]


def data(**changes):
    return SimpleNamespace(**{"split": "supervised", "val_fraction": 0.2, "test_fraction": 0.25, "seed": 0} | changes)


def test_each_type_is_divided_by_its_fractions_where_pictures_stand_alone():
    """Worked out by hand: of 40 dents 10 go to test and a fifth of the other 30 to val."""
    kinds = ["good"] * 120 + ["dent"] * 40 + ["hole"] * 8 + ["rare"] * 2
    pictures = [
        Picture(Path(f"{i}"), f"{i}", k, None, f"{i}", "any" if k == "good" else "test") for i, k in enumerate(kinds)
    ]
    found = Counter((name, kinds[i]) for i, name, _ in split(pictures, [f"{i}" for i in range(len(kinds))], data()))
    assert found == {
        ("test", "good"): 30, ("val", "good"): 18, ("train", "good"): 72,
        ("test", "dent"): 10, ("val", "dent"): 6, ("train", "dent"): 24,
        ("test", "hole"): 2, ("val", "hole"): 1, ("train", "hole"): 5,
        ("test", "rare"): 1, ("train", "rare"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("origin", ["any", "train"])
def test_rules_hold_for_random_sources(origin, capsys):
    tried = 0
    for seed in range(60):
        rng = random.Random(seed)
        pictures, digests = [], []
        for i in range(150):
            defect = rng.choice(TYPES)
            place = (
                "test" if defect != "good" else rng.choice([origin, origin, "test" if origin == "train" else origin])
            )
            pictures.append(Picture(Path(f"{i}"), f"{i}", defect, None, f"g{rng.randrange(110)}", place))
            digests.append(f"d{rng.randrange(400)}")
        settings = data(seed=seed)
        try:
            rows = split(pictures, digests, settings)
        except UserError:
            continue
        tried += 1
        assert rows == split(pictures, digests, settings)
        label = brute_force_components(pictures, digests)
        where = {}
        for i, name, _ in rows:
            where.setdefault(label[i], set()).add(name)
        assert all(len(names) == 1 for names in where.values()), "no group straddles"
        kept = {i: name for i, name, _ in rows}
        assert len(kept) == len(rows)
        for i, picture in enumerate(pictures):
            if picture.defect == "good" and picture.origin == "test":
                assert kept[i] == "test", "a published test picture stays where it is"
            if picture.defect == "good" and picture.origin == "train":
                assert kept.get(i) != "test", "what is published for training is never tested with"
        have = Counter((name, pictures[i].defect) for i, name in kept.items())
        for kind in ("dent", "hole"):
            total = sum(have[name, kind] for name in ("train", "val", "test"))
            assert have["train", kind] > (0.4 * total if origin == "any" else 0), "most is left to learn from"
        files = {digests[i] for i in kept}
        assert all(digests[i] in files for i, p in enumerate(pictures) if p.defect != "good"), (
            "only copies are left out"
        )
    assert tried > 40
    capsys.readouterr()


def test_another_seed_is_another_split(here):
    dataset(here / "mine", defects=8)
    picks = [
        frozenset(i.path for i in fetch("folder", path="mine", split="supervised", seed=seed) if i.split == "test")
        for seed in range(5)
    ]
    assert len(set(picks)) > 2


def test_the_index_says_it_and_only_who_asks_sees_it(here, capsys):
    dataset(here / "mine", defects=10)
    items = fetch("folder", path="mine", split="supervised")
    assert "test: 2 dent, 3 good, 2 hole" in capsys.readouterr().out
    assert Counter((i.split, i.label) for i in items)["train", 1] == 14
    for item in items:
        folder = Path("data", "test" if item.split == "test" else "train")
        assert (folder / item.path).is_file() and (not item.mask or (folder / item.mask).is_file())
    for name, count in (("train", 14), ("val", 2)):
        assert {i.label for i in read_index("data/train", name)} == {0}
        assert f"data/train: {count} labelled defects of {name} are left out here" in capsys.readouterr().out
        assert len(read_index("data/train", name, labels=(1,))) == count
        assert "left out" not in capsys.readouterr().out
    assert {i.label for i in read_index("data/test", "test")} == {0, 1}


def test_without_defects_to_learn_from_it_is_said(here):
    dataset(here / "mine", defects=1)
    with pytest.raises(UserError, match=r"no defective picture for (test|val|train): the source has 17 pictures"):
        fetch("folder", path="mine", split="supervised")
    assert not any(Path("data").iterdir())
    dataset(here / "mine", defects=4)
    fetch("folder", path="mine")
    with pytest.raises(UserError, match=r"data/train/index\.csv: no labelled defect in split train; set data\.split"):
        read_index("data/train", "train", labels=(1,))


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("grouped", [True, False])
def test_magnetic_tiles(here, assets, grouped):
    items = fetch("mtd", path=str(assets / "data"), split="supervised", group_near_duplicates=grouped)
    assert len(items) == 952 + 392
    places = {}
    for item in items:
        places.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in places.values())
    have = Counter((item.split, item.defect) for item in items)
    for defect in {item.defect for item in items}:
        total = sum(have[split, defect] for split in ("train", "val", "test"))
        share = have["test", defect] / total
        assert abs(share - 0.2) < (0.1 if grouped else 0.02), (defect, share)
        assert have["val", defect] > 0 and have["train", defect] > 0.6 * total
    assert all(bool(item.mask) == bool(item.label) for item in items)
