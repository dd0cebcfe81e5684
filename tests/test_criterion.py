"""The rank correlation of the validation criterion, against ranks counted one by one."""

import pytest

from edge.errors import UserError
from experiments import criterion

ROWS = [
    ("A", "tiles", 0.5, 0.9, 0.7),
    ("A", "tiles", 0.6, 0.8, 0.9),
    ("A", "tiles", 0.8, 0.7, 0.8),
    ("A", "pill", 0.1, 0.1, 0.1),
    ("A", "pill", 0.2, 0.2, 0.2),
    ("B", "pill", 0.3, 0.1, 0.5),
    ("B", "pill", 0.2, 0.2, 0.6),
]


def spearman(x, y):
    """1 - 6 d² / (n (n² - 1)) over the differences of the ranks, where no values are equal."""
    ranks = [[sorted(values).index(value) for value in values] for values in (x, y)]
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (len(x) * (len(x) ** 2 - 1))


def test_every_cell_is_the_rank_correlation_of_its_candidates(tmp_path):
    lines = ["experiment,set,families,cutpaste,test", *(",".join(map(str, row)) for row in ROWS)]
    (tmp_path / "candidates.csv").write_text("\n".join(lines))
    lines = criterion.markdown(tmp_path).splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert table[0] == ["Run", "Candidates per set", "Criterion", "Tiles", "Pill"] and len(table) == 2 + 4
    for run, count, title, *cells in table[2:]:
        column = 2 + list(criterion.CRITERIA.values()).index(title)
        for name, cell in zip(("tiles", "pill"), cells, strict=True):
            mine = [row for row in ROWS if row[:2] == (run, name)]
            assert cell == (f"{spearman([r[column] for r in mine], [r[4] for r in mine]):.2f}" if mine else "\u2013")
        assert int(count) == max(sum(row[:2] == (run, name) for row in ROWS) for name in ("tiles", "pill"))


def test_without_candidates_it_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"candidates\.csv: no candidates"):
        criterion.markdown(tmp_path)
