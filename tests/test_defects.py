"""The stage that tells types of labelled defects: its neighbours against scikit-learn's, what its choices see, and what
it writes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typed_models
import yaml
from conftest import ROOT
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

import edge
from edge.defects.catalogue import NEAR, open_catalogue
from edge.errors import UserError
from experiments import types
from stages.common import dataset, params
from stages.defects import protocol
from stages.defects.__main__ import run
from stages.defects.neighbours import NONE, Neighbours, Way
from stages.report import defects as report

KEY = ("region", 4)
WAYS = [Way(*KEY, k) for k in (1, 3, 5)]


def cloud(count=90, kinds=3, parts=15, noise=0.5, seed=0) -> Neighbours:
    """Unit vectors around a centre of each type; a part has defects of one type, and a place of its own."""
    rng = np.random.default_rng(seed)
    part = np.arange(count) % parts
    types = part % kinds
    vectors = rng.normal(size=(kinds, 4))[types] + noise * rng.normal(size=(count, 4))
    vectors += 0.5 * rng.normal(size=(parts, 4))[part]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Neighbours(types, ["a", "b", "c"][:kinds], part, {KEY: vectors.astype(np.float32)})


def plan(found, **changes):
    everything = {"folds": protocol.folds(found.parts, 5, 0), "allowed": found.everything, "known": 0.9, "ways": WAYS}
    return protocol.Plan(**(everything | {"seed": 0, "draws": 3} | changes))


def reference(found, way, asked, allowed):
    """Leave-one-part-out by scikit-learn, one query after the other."""
    vectors, told, far = found.vectors[way.key], [], []
    for i in asked:
        rest = np.flatnonzero(allowed & (found.parts != found.parts[i]))
        model = KNeighborsClassifier(min(way.k, len(rest)), weights=lambda d: 1 / (d + NEAR), algorithm="brute")
        model.fit(vectors[rest], found.types[rest])
        told.append(model.predict(vectors[i : i + 1])[0])
        far.append(model.kneighbors(vectors[i : i + 1])[0][0, 0])
    return np.array(told), np.array(far)


@pytest.mark.parametrize("way", WAYS)
def test_neighbours_of_other_parts_vote_as_in_scikit_learn(way):
    found = cloud()
    allowed = np.arange(90) < 70
    asked = np.arange(0, 90, 7)
    told, far = found.tell(way, asked, allowed)
    expected, distances = reference(found, way, asked, allowed)
    assert np.array_equal(told, expected)
    np.testing.assert_allclose(far, distances, atol=2e-3)


def test_a_defect_without_neighbours_is_told_nothing():
    found = cloud()
    allowed = found.parts == 3
    told, far = found.tell(WAYS[1], np.flatnonzero(found.parts == 3), allowed)
    assert set(told.tolist()) == {NONE} and np.isinf(far).all()


def test_the_choice_is_the_best_of_all_by_leave_one_part_out():
    found = cloud(noise=0.9)
    among = np.arange(10, 80)
    allowed = np.isin(np.arange(90), among)
    way, limit = found.choose(WAYS, among, 0.9)
    scores = {}
    for one in WAYS:
        told, far = reference(found, one, among, allowed)
        scores[one] = f1_score(found.types[among], told, average="macro")
    assert scores[way] == pytest.approx(max(scores.values()))
    assert limit == pytest.approx(np.quantile(far, 0.9), abs=2e-3)


def test_folds_keep_parts_together_and_hold_all():
    parts = np.repeat(np.arange(23), 3)
    found = protocol.folds(parts, 5, 1)
    assert len(found) == 5 and sorted(np.concatenate(found)) == list(range(69))
    assert all(
        len({k for k, fold in enumerate(found) if set(np.flatnonzero(parts == p)) & set(fold)}) == 1 for p in parts
    )
    assert [fold.tolist() for fold in found] != [fold.tolist() for fold in protocol.folds(parts, 5, 2)]
    assert len(protocol.folds(parts, 50, 1)) == 23


def test_what_is_judged_chooses_nothing():
    """Wrong labels in one fold change no choice for that fold."""
    found = cloud(noise=0.9)
    whole = plan(found)
    before = protocol.chosen(found, whole)
    for number, fold in enumerate(whole.folds):
        types = found.types.copy()
        types[fold] = (types[fold] + 1) % 3
        other = Neighbours(types, found.names, found.parts, found.vectors)
        assert protocol.chosen(other, whole)[number] == before[number]


def test_figures_are_those_of_scikit_learn():
    found = cloud(noise=0.8)
    whole = plan(found)
    result = protocol.judge(found, whole)
    judged, told = whole.judged, np.array(result["told"])
    types = found.types[judged]
    assert result["accuracy"] == pytest.approx(accuracy_score(types, told)) and result["accuracy"] < 1
    assert result["macro_f1"] == pytest.approx(f1_score(types, told, average="macro"))
    assert np.array_equal(np.array(result["confusion"])[:, :3], confusion_matrix(types, told))
    for at, (fold, (way, _)) in enumerate(zip(whole.folds, protocol.chosen(found, whole), strict=True)):
        start = sum(map(len, whole.folds[:at]))
        assert np.array_equal(told[start : start + len(fold)], reference(found, way, fold, whole.allowed)[0])
    assert result["own_part_kept"]["accuracy"] >= result["accuracy"]


def test_a_type_left_out_is_judged_by_its_distance():
    found = cloud(noise=0.05)
    one = plan(found, ways=[Way(*KEY, 1)], folds=[np.arange(90)], allowed=np.ones(90, bool))
    one = protocol.Plan([np.arange(45, 90)], np.arange(90) < 45, 0.9, one.ways, 0, 3)
    result = protocol.open_set(found, one)
    for kind, name in enumerate(found.names):
        known = np.flatnonzero((found.types != kind) & (np.arange(90) < 45))
        allowed = np.isin(np.arange(90), known)
        _, limits = reference(found, one.ways[0], known, allowed)
        _, far = reference(found, one.ways[0], np.arange(45, 90), allowed)
        strange = found.types[45:] == kind
        assert result["types"][name]["auroc"] == pytest.approx(roc_auc_score(strange, far), abs=2e-3)
        refused = (far[strange] > np.quantile(limits, 0.9)).mean()
        assert result["types"][name]["refused"] == pytest.approx(refused, abs=0.03)
    assert result["auroc"] == pytest.approx(np.mean([one["auroc"] for one in result["types"].values()]))


def test_more_examples_tell_more():
    found = cloud(count=180, noise=0.6)
    rows = protocol.judge(found, plan(found, draws=8))["curve"]
    assert [row["examples"] for row in rows] == [1, 2, 5, 10, 20]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] and all(row["accuracy_std"] >= 0 for row in rows)
    assert rows == protocol.judge(found, plan(found, draws=8))["curve"]


# the stage


def project(root: Path, split="unsupervised", each=6, masks=True, **changes):
    """Pictures with spots of three colours, two of each part, and a variant that embeds them; the params."""
    typed_models.write(root / "artifacts/models/typed")
    items = []
    for kind in (*typed_models.COLOURS, "good"):
        for i in range(each):
            where = "test" if split == "unsupervised" or i < 2 else ("val", "train")[i % 2]
            folder = root / "data" / ("test" if where == "test" else "train")
            (folder / "images").mkdir(parents=True, exist_ok=True)
            image, mask = typed_models.spot(kind, 10 * i + len(kind))
            name, mask_name = f"images/{kind}{i}.png", f"images/{kind}{i}_mask.png" if masks and kind != "good" else ""
            cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            if mask_name:
                cv2.imwrite(str(folder / mask_name), mask * np.uint8(255))
            digest = dataset.sha256(folder / name)
            more = {"part": f"{kind}{i // 2}"}
            items.append(
                (folder, dataset.Item(name, where, int(kind != "good"), kind, mask_name, digest, name, **more))
            )
    for folder in {folder for folder, _ in items}:
        dataset.write_index(folder, [item for place, item in items if place == folder])
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["data"]["split"] = split
    tree["compile"]["embedding"] = 6
    tree["variants"] |= {name: tree["variants"]["student-int8"] | {"step": name} for name in ("typed", "other")}
    tree["defects"] |= {
        "variant": "typed",
        "dimensions": [4, 6],
        "folds": 3,
        "neighbours": [1, 3],
        "draws": 2,
    } | changes
    return params.validate(tree)


def outcome() -> dict:
    return json.loads(Path("artifacts/defects/result.json").read_text())


def test_the_stage_tells_types_and_writes_a_catalogue(here):
    made = project(here)
    run(made)
    found = outcome()
    assert found["types"] == {"blue": 6, "green": 6, "red": 6} and found["parts"] == 9 and found["peak_hits"] == 1
    assert set(found["results"]["typed"]) == {"found", "marked"}
    assert all(one["accuracy"] == 1 for one in found["results"]["typed"].values())
    detector = edge.load("artifacts/models/typed", types="artifacts/defects/catalogue")
    catalogue = open_catalogue("artifacts/defects/catalogue", detector.info)
    assert len(catalogue.points) == 18 == len(list(Path("artifacts/defects/catalogue/thumbnails").iterdir()))
    assert catalogue.rules.limit == pytest.approx(found["catalogue"]["limit"])
    assert detector.predict(typed_models.spot("green", 999)[0]).type.type == "green"
    before = {path: path.read_bytes() for path in Path("artifacts/defects").rglob("*") if path.is_file()}
    run(made)
    assert {path: path.read_bytes() for path in Path("artifacts/defects").rglob("*") if path.is_file()} == before


def test_labelled_defects_to_learn_from_choose_and_test_is_judged(here):
    run(project(here, split="supervised", each=10))
    found = outcome()
    assert sum(found["judged"].values()) == 6 and found["catalogue"]["examples"] == 24
    points = open_catalogue("artifacts/defects/catalogue").points
    assert not {point.picture for point in points} & {
        f"images/{kind}{i}.png" for kind in typed_models.COLOURS for i in (0, 1)
    }


def test_another_embedding_is_compared_alone_and_joined(here):
    made = project(here, compare="other")
    typed_models.write(here / "artifacts/models/other", seed=5)
    run(made)
    assert set(outcome()["results"]) == {"typed", "other", "typed + other"}


def test_without_masks_only_what_the_model_finds_is_judged(here):
    run(project(here, masks=False))
    found = outcome()
    assert set(found["results"]["typed"]) == {"found"} and found["peak_hits"] is None


def test_types_of_one_picture_each_are_judged_without_a_curve(here):
    """Each is told to be another type: no other part has its own."""
    run(project(here, each=1))
    found = outcome()["results"]["typed"]["found"]
    assert found["accuracy"] == 0 and found["curve"] == []


def test_without_a_variant_nothing_is_done(here):
    run(params.validate(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert outcome() == {"variant": None}
    assert report.draw(here, here) == {} and report.section()["rows"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "artifacts/models/typed/model.onnx").write_bytes(b"x"), "content differs from sha256"),
        (lambda root: relabel(root, "red"), "at least two of each"),
    ],
)
def test_what_can_not_be_judged_is_a_line(here, change, words):
    made = project(here)
    change(here)
    with pytest.raises(UserError, match=words) as caught:
        run(made)
    assert "\n" not in str(caught.value) and not Path("artifacts/defects").exists()


def relabel(root: Path, kind: str) -> None:
    items = [item for item in dataset.read_index(root / "data/test") if item.defect in (kind, "good")]
    dataset.write_index(root / "data/test", items)


def test_the_report_shows_them(here):
    run(project(here))
    (here / "png").mkdir()
    (here / "svg").mkdir()
    captions = report.draw(here / "png", here / "svg")
    assert set(captions) == set(report.HEADINGS)
    assert all((here / "png" / f"{name}.png").stat().st_size > 1000 for name in captions)
    section = report.section()
    assert [row[2] for row in section["rows"]] == ["1.000", "1.000"] and len(section["rows"][0]) == len(report.HEAD)
    rows = (here / "svg/types_map.csv").read_text().splitlines()
    assert len(rows) == 19


def test_runs_of_several_seeds_become_one_table(tmp_path, monkeypatch):
    for seed in (0, 1):
        root = tmp_path / str(seed)
        made = project(root, seed=seed)
        monkeypatch.chdir(root)
        run(made)
        tree = made.model_dump()
        tree["seed"] = seed
        (root / "params.yaml").write_text(yaml.safe_dump(tree))
    found = types.record([tmp_path / "1", tmp_path / "0"])
    assert [one["seed"] for one in found["runs"]] == [0, 1]
    (tmp_path / "defects.json").write_text(json.dumps(found))
    text = types.markdown(tmp_path)
    assert (
        "| typed | found by the model | 1.000 (1.000 to 1.000) |" in text
        and "(seed of the model / of folds and draws): 0 / 0, 1 / 1." in text
    )
    assert "| Region | blue (6) | green (6) | red (6) |" in text
    with pytest.raises(UserError, match="differ in their seeds alone"):
        types.record([tmp_path / "1", tmp_path / "1"])
    Path("artifacts/defects/result.json").write_text('{"variant": null}')
    with pytest.raises(UserError, match=r"told no types; set defects\.variant"):
        types.record([tmp_path / "1"])
