"""Memory banks in fewer bytes: each form against its definition, and the command from a project to its table."""

import json

import numpy as np
import pytest
import torch
import toy
from conftest import one_line
from sklearn.metrics import roc_auc_score
from students import pictures

from edge.errors import UserError
from experiments import bank_table, banks
from experiments.__main__ import main
from experiments.quantized_banks import FORMS, int8, product
from stages.common.yamlfile import read_yaml
from stages.detectors.coreset import greedy_coreset
from stages.detectors.patchcore import PatchCore
from stages.report import plots

torch.set_num_threads(1)


def bank(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32))


def test_int8_is_half_a_step_away_at_most():
    found, size = int8(values := bank(50, 12))
    steps = values.abs().amax(0) / 127
    assert ((found - values).abs() <= steps / 2 + 1e-6).all() and size == 50 * 12 + 4 * 12
    assert all(len(found[:, d].unique()) > 20 for d in range(12))


def test_product_quantization_gives_each_part_its_nearest_centroid():
    """Against a search over all centroids of each sub-space, which are at most 256."""
    values = bank(700, 20)
    found, size = product(values)
    parts = [(values[:, a : a + 8], found[:, a : a + 8]) for a in (0, 8, 16)]
    assert [wide.shape[1] for wide, _ in parts] == [8, 8, 4]
    for before, after in parts:
        centroids = after.unique(dim=0)
        assert len(centroids) <= 256
        nearest = torch.cdist(before, centroids).argmin(1)
        assert (centroids[nearest] == after).all(1).double().mean() > 0.98  # k-means may end before its last assignment
    assert size == 3 * 700 + 4 * 256 * 20
    assert (found - values).square().mean() < 0.4 * values.var()


def test_a_bank_of_few_embeddings_is_kept_whole():
    found, size = product(values := bank(9, 8))
    torch.testing.assert_close(found, values)
    assert size == 9 + 4 * 72


def test_rows_are_those_of_patchcore_with_that_bank():
    """In float32 the AUROC is that of a PatchCore whose bank is chosen at that ratio alone."""
    settings, _ = PatchCore.example()
    train, test = pictures(6, 32, 1), pictures(12, 32, 2)
    labels = np.arange(12) % 2
    test[1::2, 8:16, 8:16] = 255 - test[1::2, 8:16, 8:16]
    run = banks.SimpleNamespace(seed=0, stage="test", log=lambda *_, **__: None, source=None)
    teacher = PatchCore.fit(train, train, settings, run)
    chosen = banks.SimpleNamespace(seed=3, draws=2, projection_dim=1000, smooth=1)
    rows = banks.measure(teacher, train, test, labels, [0.02, 0.2], chosen)
    assert [(row["ratio"], row["form"]) for row in rows] == [(ratio, form) for ratio in (0.02, 0.2) for form in FORMS]
    patches = banks.flatten_patches(banks.embeddings(teacher, train, "train"))
    for row in rows[::3]:
        assert row["patches"] == round(row["ratio"] * len(patches)) and row["bytes"] == 4 * row["patches"] * 64
        generator = torch.Generator().manual_seed(4)  # of the second draw; nothing is projected
        for draw, start in enumerate((0, int(torch.randint(len(patches), (), generator=generator)))):
            kept, _ = greedy_coreset(patches, row["patches"], start)
            alone = PatchCore(teacher.extractor, patches[kept], teacher.pool, "max", teacher.stride).eval()
            wanted = roc_auc_score(labels, alone.maps(test).flatten(1).amax(1))
            assert row["image_auroc"][draw] == pytest.approx(wanted)


ROWS = [
    {"ratio": ratio, "patches": count, "form": form, "bytes": count * width}
    | {"image_auroc": [0.9 + count / 1e4, 0.88 + count / 1e4]}
    for ratio, count in ((0.01, 10), (0.1, 100))
    for form, width in (("float32", 400), ("int8", 100))
]


def test_the_table_and_the_plot_show_every_row(tmp_path):
    record = {"rows": ROWS, "images": 7, "backbone": "simclr", "dimensions": 100, "seed": 0}
    (tmp_path / "banks.json").write_text(json.dumps(record))
    table = bank_table.markdown(tmp_path).splitlines()
    assert "float32, size" in table[0] and "int8, AUROC" in table[0]
    assert [line.split("|")[1].strip() for line in table[2:4]] == ["0.01", "0.1"]
    assert "0.891 ± 0.014" in table[2] and "0.900 ± 0.014" in table[3] and "7 test pictures" in "".join(table)
    assert "2 coresets of each ratio" in "".join(table)
    bank_table.draw(ROWS, tmp_path / "banks.png")
    assert plots.plt.imread(tmp_path / "banks.png").shape[1] > 500


@pytest.mark.parametrize("ratio", ["0", "1.5", "-1", "nan"])
def test_a_ratio_that_is_none_is_one_line(ratio, capsys):
    with pytest.raises(SystemExit):
        main(["banks", "--ratio", ratio])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("draws", ["0", "-1", "101"])
def test_draws_that_are_none_are_one_line(draws, capsys):
    with pytest.raises(SystemExit):
        main(["banks", "--draws", draws])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_goes_from_a_project_to_its_record(tmp_path, monkeypatch):
    folder = toy.make(tmp_path)
    done = toy.dvc(folder, "repro", "teacher")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    main(["banks", "--ratio", "0.01", "0.05", "--draws", "2"])
    found = json.loads((folder / "reports/banks.json").read_text())
    assert len(found["rows"]) == 6 and found["code"]["commit"] and (folder / "reports/banks.png").exists()
    assert all(0 <= auroc <= 1 for row in found["rows"] for auroc in row["image_auroc"])


def test_a_map_that_is_no_square_keeps_its_shape():
    """Bilinear to twice the width, the places beside a peak of 4 get three quarters of it."""
    row = torch.tensor([0.0, 4.0, 0.0, 0.0]).view(1, 1, 1, 4)
    small, large = (banks.scores(row, torch.zeros(1, 1), size, 1)[0] for size in ((1, 4), (1, 8)))
    assert (small, large) == (4.0, 3.0)


@pytest.mark.parametrize("change", [{"fit": "letterbox"}, {"tiles": {"rows": 1, "columns": 2, "overlap": 32}}])
def test_tiles_and_letterboxed_pictures_are_one_line(tmp_path, monkeypatch, change):
    """Their samples are no pictures: there are several of one, or part of one is padding."""
    tree = read_yaml("params.yaml")
    monkeypatch.setattr(banks.params, "read_yaml", lambda _: tree | {"input": tree["input"] | change})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="banks are compared without") as caught:
        banks.run(banks.SimpleNamespace(ratio=[0.1], draws=1, output=banks.OUT))
    one_line(caught)


def test_without_a_teacher_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        banks.run(banks.SimpleNamespace(ratio=[0.1], draws=1, output=banks.OUT))
    one_line(caught)
