"""Splits the pictures into train, val and test by whole groups.

Groups are drawn in the order of their hashes, which is the same on any machine and with any version of a library.
`data.split` says who learns: unsupervised, from good pictures alone; supervised, from labelled defects too.
"""

import hashlib
from collections import Counter
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
    """(index into `pictures`, split, group) of every picture that is kept; prints a line for what is left out.

    `digests` are the sha256 of the images. The order of the decisions:
    1. What has its place goes to test: good pictures of origin "test", and the defects. Defects of origin "train" are
       left out.
    2. Pictures that share a group with one of them can't be trained on. Those without a place go to test too, unless
       the same file is there; those of origin "train" are left out.
    3. `test_fraction` of the good pictures of origin "any", counting those of 2, are drawn for test.
    4. `val_fraction` of the pictures that remain are drawn for val; the rest is train.
    With `data.split` supervised, defects have a place where the source has some of origin "train": in its own split.
    Otherwise they have none, and 3 draws `test_fraction` of each type. Either way 4 draws of each type.
    What is drawn are whole groups, as many as fit, and at least one. UserError when a split lacks what it needs.
    """
    supervised = data.split == "supervised"
    groups = merge(pictures, digests)
    origins = [_origin(picture, supervised and not _has_own(pictures), supervised) for picture in pictures]
    if dropped := origins.count(None):
        print(f"left out: {dropped} defects of the source's train split; data.split: supervised learns from them")
    in_test: dict[str, int] = {}  # group, and below digest: the first picture of it in test
    test_file: dict[str, int] = {}
    for i, origin in enumerate(origins):
        if origin == "test":
            in_test.setdefault(groups[i], i)
            test_file.setdefault(digests[i], i)

    kept: list[tuple[int, str, str]] = []
    free: dict[str, list[int]] = {}  # by group
    train: dict[str, list[int]] = {}
    for i, (picture, origin) in enumerate(zip(pictures, origins, strict=True)):
        group = groups[i]
        if origin is None:
            continue
        if origin == "test" or (group in in_test and origin == "any" and digests[i] not in test_file):
            kept.append((i, "test", group))
        elif group in in_test:
            twin = test_file.get(digests[i])
            why = "the same file as" if twin is not None else "in one group with"
            other = pictures[in_test[group] if twin is None else twin].file
            print(f"left out of train: {picture.file} is {why} the test picture {other}", flush=True)
        else:
            (free if origin == "any" else train).setdefault(group, []).append(i)
    for group in train.keys() & free.keys():  # one of its pictures has its place in train
        train[group] += free.pop(group)

    types = [picture.defect for picture in pictures]
    if free:
        given = Counter(types[i] for i, _, _ in kept)
        drawn = _draw(free, types, data.test_fraction, f"{data.seed}/test", given)
        kept += [(i, "test", g) for g in drawn for i in free[g]]
        train |= {g: members for g, members in free.items() if g not in drawn}
    drawn = _draw(train, types, data.val_fraction, f"{data.seed}/val", Counter())
    kept += [(i, "val" if g in drawn else "train", g) for g, members in train.items() for i in members]
    _check(pictures, groups, kept, supervised)
    return kept


def _has_own(pictures: list[Picture]) -> bool:
    """Whether the source has a split of its own for learning from defects."""
    return any(picture.defect != "good" and picture.origin == "train" for picture in pictures)


def _origin(picture: Picture, drawn: bool, supervised: bool) -> str | None:
    """The origin that counts: of a defect "any" where the defects are `drawn`; None for one that nothing learns from
    and nobody tests with."""
    if picture.defect == "good":
        return picture.origin
    if drawn:
        return "any"
    if picture.origin == "train":
        return "train" if supervised else None
    return "test"


def _check(pictures: list[Picture], groups: list[str], kept: list[tuple[int, str, str]], supervised: bool) -> None:
    """UserError when a split has no picture of a kind that it needs."""
    have = {(name, pictures[i].defect == "good") for i, name, _ in kept}
    wanted = [("test", False), ("test", True), ("val", True), ("train", True)]
    for name, good in wanted + ([("val", False), ("train", False)] if supervised else []):
        if (name, good) not in have:
            what = "good" if good else "defective"
            counted = len({groups[i] for i, p in enumerate(pictures) if (p.defect == "good") == good})
            raise UserError(
                f"no {what} picture for {name}: the source has {len(pictures)} pictures, the {what} ones in "
                f"{counted} groups that can't be divided; add pictures, or check data.path for duplicates"
            )


def _draw(groups: dict[str, list[int]], types: list[str], fraction: float, salt: str, given: Counter) -> set[str]:
    """Names of the groups that are drawn: of each type at most `fraction` of its pictures, those of `given` counted.

    types: of each picture. Of a type of which nothing is given and no group fits, the smallest group is drawn; of a
    defect type only if another group of it is left. `salt` makes the order, and so the draw, another one for each seed
    and split.
    """
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())
    count = {name: Counter(types[i] for i in groups[name]) for name in order}
    size = sum(count.values(), Counter())
    wanted = Counter({kind: round(fraction * (given[kind] + size[kind])) - given[kind] for kind in size})
    drawn: set[str] = set()
    for kind in sorted(size, key=lambda kind: (size[kind], kind)):  # the rarest first: it has the fewest to choose from
        having = [name for name in order if count[name][kind]]
        for name in having:
            if name not in drawn and all(number <= wanted[k] for k, number in count[name].items()):
                drawn.add(name)
                wanted.subtract(count[name])
        if not given[kind] and not drawn & set(having) and (kind == "good" or len(having) > 1):
            drawn.add(min(having, key=lambda name: len(groups[name])))
    return drawn
