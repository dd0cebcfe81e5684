"""The whole study: labelled defects embedded, judged under every source of embeddings, and made into a catalogue."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

from edge.defects import region
from edge.errors import UserError
from edge.inference.detector import Detector, load
from stages.common.dataset import Item, read_index
from stages.defects import catalogue, protocol, samples
from stages.defects.neighbours import Neighbours, Way
from stages.defects.samples import MARKED, PLACES, TEST, TRAIN, Seen

MODELS = Path("artifacts/models")


def study(params, folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Writes the catalogue into `folder`; returns the content of result.json, and what the report draws."""
    p = params.defects
    detector = load(MODELS / p.variant, params.threads)
    learned = _labelled(params.data.split)
    tested = read_index(TEST, "test", (1,))
    seen = _looked(detector, learned, tested, p.poolings)
    names = sorted({one.item.defect for one in seen})
    parts = np.unique([one.part for one in seen], return_inverse=True)[1]
    if len(names) < 2 or parts.max() < 1:
        raise UserError(f"defects: {len(names)} types on {parts.max() + 1} parts; at least two of each are needed")
    types = np.array([names.index(one.item.defect) for one in seen])
    splits, allowed = _plan(p, parts, len(learned))
    sources = {p.variant: [seen]}
    if p.compare:
        other = load(MODELS / p.compare, params.threads)
        sources[p.compare] = [_looked(other, learned, tested, p.poolings)]
        sources[f"{p.variant} + {p.compare}"] = [seen, sources[p.compare][0]]
    results: dict[str, dict] = {}
    spaces: dict[tuple[str, str], tuple[Neighbours, protocol.Plan]] = {}
    for name, looks in sources.items():
        for place in PLACES:
            usable = np.array([place != MARKED or MARKED in one.weights for one in looks[0]])
            if len(np.unique(types[usable])) < 2:
                continue
            poolings = [MARKED] if place == MARKED else p.poolings
            ways = [Way(*way) for way in product(poolings, _dimensions(looks, p.dimensions), p.neighbours)]
            space = _space(looks, types, names, parts, ways)
            some = [fold[usable[fold]] for fold in splits]
            plan = protocol.Plan([fold for fold in some if len(fold)], allowed & usable, p.known, ways, p.seed, p.draws)
            found = protocol.judge(space, plan)
            print(f"{name}, {place}: accuracy {found['accuracy']:.3f}, macro-F1 {found['macro_f1']:.3f}", flush=True)
            results.setdefault(name, {})[place] = found
            spaces[name, place] = space, plan
    space, plan = spaces[p.variant, "found"]
    examples = np.flatnonzero(allowed)
    way, limit = space.choose(plan.ways, examples, p.known)
    catalogue.write(folder / "catalogue", detector, [seen[i] for i in examples], way, limit, params.input.depth)
    judged, info = plan.judged, detector.info
    result = {
        "variant": p.variant,
        "model": {"sha256": info.sha256, "size_bytes": info.size_bytes, "format": info.format},
        "types": dict(Counter(one.item.defect for one in seen)),
        "judged": dict(Counter(seen[i].item.defect for i in judged)),
        "parts": int(parts.max()) + 1,
        "folds": len(splits),
        "split": params.data.split,
        "peak_hits": samples.peak_hits([seen[i] for i in judged]),
        "detected": float(np.mean([seen[i].is_defect for i in judged])),
        "catalogue": {"examples": len(examples), "limit": limit, "pooling": way.pooling, "k": way.k}
        | {"dimensions": way.dimensions},
        "results": {name: {place: _public(found) for place, found in one.items()} for name, one in results.items()},
    }
    main = results[p.variant]["found"]
    kept = {
        "path": np.array([one.item.path for one in seen]),
        "folder": np.array([str(one.folder) for one in seen]),
        "type": np.array([one.item.defect for one in seen]),
        "vector": space.vectors[way.key],
        "judged": judged,
        "told": np.array(main["told"]),
        "nearest": np.array(main["nearest"]),
        "box": np.array([region.box(one.weights[way.pooling], one.size) for one in seen]),
    }
    return result, kept


def _labelled(split: str) -> list[Item]:
    """The labelled defects that choices are made on, where the index has such."""
    return read_index(TRAIN, "train", (1,)) + read_index(TRAIN, "val", (1,)) if split == "supervised" else []


def _looked(detector: Detector, learned: list[Item], tested: list[Item], poolings: list[str]) -> list[Seen]:
    seen = samples.look(detector, TRAIN, learned, poolings) if learned else []
    return seen + samples.look(detector, TEST, tested, poolings)


def _plan(p, parts: np.ndarray, learned: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The folds, and what may be an example: test is judged by the labelled defects that were there to learn from, or
    every fold by all of other parts."""
    if learned:
        return [np.arange(learned, len(parts))], np.arange(len(parts)) < learned
    return protocol.folds(parts, p.folds, p.seed), np.ones(len(parts), bool)


def _dimensions(looks: list[list[Seen]], wanted: list[int]) -> list[int]:
    """The numbers of dimensions that the embeddings have."""
    most = min(look[0].embedding.shape[-1] for look in looks)
    return [n for n in wanted if n <= most] or [most]


def _space(looks: list[list[Seen]], types, names, parts, ways: list[Way]) -> Neighbours:
    """The neighbours by the vectors of one source, or of several joined, each with the same weight."""
    vectors = {}
    for pooling, dimensions in dict.fromkeys(way.key for way in ways):
        found = [samples.vectors(look, pooling, dimensions) for look in looks]
        vectors[pooling, dimensions] = np.concatenate(found, 1) / np.float32(np.sqrt(len(found)))
    return Neighbours(types, names, parts, vectors)


def _public(found: dict) -> dict:
    """Without what is of each picture."""
    return {key: value for key, value in found.items() if key not in ("told", "nearest")}
