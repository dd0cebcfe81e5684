"""How well types are told: each defect is judged by what was chosen without its fold, and by examples of other parts.

Pooling, dimensions, number of neighbours and distance limit are chosen by leave-one-part-out on the rest of the folds
(nested cross validation); where the index has labelled defects in train and val, on these, and test is judged.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from edge.inference.scoring import auroc
from stages.defects.neighbours import Neighbours, Way, f1_scores, macro_f1

EXAMPLES = (1, 2, 5, 10, 20)  # per type, of the curve


@dataclass(frozen=True)
class Plan:
    """folds: indices that are judged together. allowed: bool [N], what may be an example. known: the share of known
    defects that the limit lets through. ways: what is chosen from."""

    folds: list[np.ndarray]
    allowed: np.ndarray
    known: float
    ways: Sequence[Way]
    seed: int
    draws: int

    @property
    def judged(self) -> np.ndarray:
        return np.concatenate(self.folds)

    def rest(self, fold: np.ndarray) -> np.ndarray:
        """What choices are made on: the examples that are not in the fold."""
        left = self.allowed.copy()
        left[fold] = False
        return np.flatnonzero(left)


def folds(parts: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """The defects by whole parts, in `count` folds (of fewer parts as many), drawn by the seed."""
    order = np.random.default_rng(seed).permutation(np.unique(parts))
    return [np.flatnonzero(np.isin(parts, some)) for some in np.array_split(order, min(count, len(order)))]


def chosen(found: Neighbours, plan: Plan) -> list[tuple[Way, float]]:
    """Way and limit of each fold."""
    return [found.choose(plan.ways, plan.rest(fold), plan.known) for fold in plan.folds]


def judge(found: Neighbours, plan: Plan) -> dict:
    """Accuracy, confusion matrix, unknown types and the learning curve, as JSON; "told" and "nearest" are of each of
    the defects in the order of `judged`."""
    picked = chosen(found, plan)
    told, ratio, near = [], [], []
    for fold, (way, limit) in zip(plan.folds, picked, strict=True):
        kinds, distances = found.tell(way, fold, plan.allowed)
        told.append(kinds)
        ratio.append(distances / max(limit, 1e-12))
        near.append(found.near(way.key, fold, plan.allowed, 1)[0][:, 0])
    answers, beyond, judged = np.concatenate(told), np.concatenate(ratio) > 1, plan.judged
    types = found.types[judged]
    alone = found.with_parts(np.arange(len(found)))  # only the picture itself is left out, as published splits have it
    loose = np.concatenate(
        [alone.tell(way, fold, plan.allowed)[0] for fold, (way, _) in zip(plan.folds, picked, strict=True)]
    )
    counts = Counter(way for way, _ in picked)
    return {
        "judged": len(judged),
        **scores(types, answers, found.names),
        "own_part_kept": {"accuracy": float((loose == types).mean()), "macro_f1": macro_f1(types, loose)},
        "known_refused": float(beyond.mean()),
        "chosen": [asdict(way) | {"folds": number} for way, number in counts.most_common()],
        "open_set": open_set(found, plan),
        "curve": curve(found, plan, picked),
        "told": answers.tolist(),
        "nearest": np.concatenate(near).tolist(),
    }


def scores(types: np.ndarray, told: np.ndarray, names: Sequence[str]) -> dict:
    """Accuracy, macro-F1, F1 by type, and the confusion matrix: rows are the true types, the last column is none."""
    matrix = np.zeros((len(names), len(names) + 1), int)
    np.add.at(matrix, (types, told), 1)  # NONE is the last column
    each = {names[kind]: value for kind, value in f1_scores(types, told).items()}
    return {
        "accuracy": float((types == told).mean()),
        "macro_f1": macro_f1(types, told),
        "f1": each,
        "confusion": matrix.tolist(),
    }


def open_set(found: Neighbours, plan: Plan) -> dict:
    """Each type in turn left out entirely, of the choices too: the AUROC of the distance (as a share of the limit) of
    its defects against the others, and which share of it lies beyond the limit."""
    out: dict = {}
    for kind, name in enumerate(found.names):
        strange = found.types == kind
        ratios, truth = [], []
        for fold in plan.folds:
            rest = plan.rest(fold)
            rest = rest[~strange[rest]]
            if len(np.unique(found.parts[rest])) < 2:
                continue
            way, limit = found.choose(plan.ways, rest, plan.known)
            ratios.append(found.tell(way, fold, plan.allowed & ~strange)[1] / max(limit, 1e-12))
            truth.append(strange[fold])
        if not truth:
            continue
        far, labels = np.minimum(np.concatenate(ratios), 1e6), np.concatenate(truth)
        refused = float((far[labels] > 1).mean()) if labels.any() else None
        out[name] = {"auroc": auroc(labels, far), "refused": refused}
    known = [one["auroc"] for one in out.values() if one["auroc"] is not None]
    beyond = [one["refused"] for one in out.values() if one["refused"] is not None]
    return {
        "types": out,
        "auroc": float(np.mean(known)) if known else None,
        "refused": float(np.mean(beyond)) if beyond else None,
    }


def curve(found: Neighbours, plan: Plan, picked: list[tuple[Way, float]]) -> list[dict]:
    """Accuracy and macro-F1 with so many examples of each type (of a rarer one all but one), as mean and standard
    deviation over draws; no more neighbours vote than there are examples of a type. Nothing where no type has two
    pictures: all are examples then, and none is left to ask about."""
    out = []
    for count in EXAMPLES:
        runs = []
        for draw in range(plan.draws):
            rng = np.random.default_rng([plan.seed, count, draw])
            examples = np.zeros(len(found), bool)
            for kind in range(len(found.names)):
                own = np.flatnonzero((found.types == kind) & plan.allowed)
                examples[rng.permutation(own)[: min(count, max(1, len(own) - 1))]] = True
            types, told = [], []
            for fold, (way, _) in zip(plan.folds, picked, strict=True):
                asked = fold[~examples[fold]]
                if len(asked):
                    few = Way(way.pooling, way.dimensions, min(way.k, count))
                    told.append(found.tell(few, asked, examples)[0])
                    types.append(found.types[asked])
            if not types:
                return []
            truth, answers = np.concatenate(types), np.concatenate(told)
            runs.append((float((truth == answers).mean()), macro_f1(truth, answers)))
        accuracy, f1 = np.array(runs).T
        row: dict[str, float] = {"examples": count, "draws": plan.draws}
        row |= {"accuracy": float(accuracy.mean()), "accuracy_std": float(accuracy.std())}
        out.append(row | {"macro_f1": float(f1.mean()), "macro_f1_std": float(f1.std())})
    return out
