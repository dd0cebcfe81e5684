"""How well the validation criterion ranks candidates: its rank correlation with the test AUROC over many of them."""

from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from edge.errors import UserError
from stages.report.formatting import NONE, markdown_table

CRITERIA = {"families": "five families", "cutpaste": "CutPaste alone"}


def markdown(folder: Path) -> str:
    """The table of `folder`/candidates.csv: a row for each experiment and criterion, a column for each set."""
    path = folder / "candidates.csv"
    if not path.exists():
        raise UserError(f"{path}: no candidates; restore it from Git")
    candidates = pd.read_csv(path)
    sets = list(dict.fromkeys(candidates["set"]))
    rows = []
    for experiment, group in candidates.groupby("experiment"):
        by_set = {name: part for name, part in group.groupby("set")}
        count = max(map(len, by_set.values()))
        for column, title in CRITERIA.items():
            found = [_correlation(by_set[name], column) if name in by_set else NONE for name in sets]
            rows.append([experiment, count, title, *found])
    return markdown_table(("Run", "Candidates per set", "Criterion", *(name.capitalize() for name in sets)), rows)


def _correlation(candidates: pd.DataFrame, column: str) -> str:
    return f"{spearmanr(candidates[column], candidates['test']).statistic:.2f}"
