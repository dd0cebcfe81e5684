"""Splits the pictures into train, val and test by whole groups.

Groups are drawn in the order of their hashes, which is the same on any machine and with any version of a library.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from edge.errors import UserError
from stages.fetch.picture import Picture


def components(members: Iterable, pairs: list[tuple]) -> dict:
    """The connected components that `pairs` make of `members`: each member and the smallest one of its component."""
    members = sorted(set(members))
    index = {member: i for i, member in enumerate(members)}
    rows, columns = [index[a] for a, _ in pairs], [index[b] for _, b in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(members), len(members)))
    _, labels = connected_components(graph, directed=False)
    _, smallest, component = np.unique(labels, return_index=True, return_inverse=True)
    return {member: members[smallest[c]] for member, c in zip(members, component, strict=True)}


def merge(pictures: list[Picture], digests: list[str]) -> list[str]:
    """The group of each picture, groups that hold the same file (equal `digests`) or frames of one clip being one."""
    first: dict[str, str] = {}  # digest, or name of a clip: the group of the first picture that has it
    same = []
    for picture, digest in zip(pictures, digests, strict=True):
        for key in (digest, f"clip {picture.clip}") if picture.clip else (digest,):
            same.append((first.setdefault(key, picture.group), picture.group))
    group = components((picture.group for picture in pictures), same)
    return [group[picture.group] for picture in pictures]


def split(pictures: list[Picture], digests: list[str], data) -> list[tuple[int, str, str]]:
    """(index into `pictures`, split, group) of every picture that is kept; prints a line for each that is left out.

    `digests` are the sha256 of the images. The order of the decisions:
    1. Pictures of origin "test", which all defects are, go to test.
    2. Good pictures that share a group with one of them can't be trained on. Those of origin "any" go to test too,
       unless the same file is there; the others are left out.
    3. `test_fraction` of the good pictures of origin "any", counting those of 2, are drawn for test.
    4. `val_fraction` of the good pictures that remain are drawn for val; the rest is train.
    What is drawn are whole groups, as many as fit, and at least one. UserError when a split would have no good picture
    or test no defect.
    """
    groups = merge(pictures, digests)
    in_test: dict[str, int] = {}  # group, and below digest: the first picture of it in test
    test_file: dict[str, int] = {}
    for i, picture in enumerate(pictures):
        if picture.origin == "test":
            in_test.setdefault(groups[i], i)
            test_file.setdefault(digests[i], i)

    kept: list[tuple[int, str, str]] = []
    free: dict[str, list[int]] = {}  # by group
    train: dict[str, list[int]] = {}
    for i, picture in enumerate(pictures):
        group = groups[i]
        if picture.origin == "test" or (group in in_test and picture.origin == "any" and digests[i] not in test_file):
            kept.append((i, "test", group))
        elif group in in_test:
            twin = test_file.get(digests[i])
            why = "the same file as" if twin is not None else "in one group with"
            other = pictures[in_test[group] if twin is None else twin].file
            print(f"left out of train: {picture.file} is {why} the test picture {other}", flush=True)
        else:
            (free if picture.origin == "any" else train).setdefault(group, []).append(i)

    if free:
        given = sum(pictures[i].defect == "good" for i, _, _ in kept)
        wanted = round(data.test_fraction * (given + _size(free))) - given
        drawn = _draw(free, wanted, f"{data.seed}/test", at_least_one=not given)
        kept += [(i, "test", g) for g in drawn for i in free[g]]
        train |= {g: members for g, members in free.items() if g not in drawn}
    drawn = _draw(train, round(data.val_fraction * _size(train)), f"{data.seed}/val", at_least_one=True)
    kept += [(i, "val" if g in drawn else "train", g) for g, members in train.items() for i in members]

    have = {(name, pictures[i].defect == "good") for i, name, _ in kept}
    for name, good in (("test", False), ("test", True), ("val", True), ("train", True)):
        if (name, good) not in have:
            what = "good" if good else "defective"
            good_groups = len({groups[i] for i, p in enumerate(pictures) if p.defect == "good"})
            raise UserError(
                f"no {what} picture for {name}: the source has {len(pictures)} pictures, the good ones in "
                f"{good_groups} groups that can't be divided; add pictures, or check data.path for duplicates"
            )
    return kept


def _draw(groups: dict[str, list[int]], wanted: int, salt: str, at_least_one: bool) -> set[str]:
    """Names of groups with at most `wanted` members in all; where none fits and `at_least_one`, the smallest group.

    `salt` makes the order, and so the draw, another one for each seed and split.
    """
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())
    drawn = set()
    for name in order:
        if len(groups[name]) <= wanted:
            drawn.add(name)
            wanted -= len(groups[name])
    if not drawn and at_least_one and order:
        drawn.add(min(order, key=lambda name: len(groups[name])))
    return drawn


def _size(groups: dict[str, list[int]]) -> int:
    """The number of pictures in all groups."""
    return sum(len(members) for members in groups.values())
