"""`python -m stages.defects push, query, label, delete, pull`: from a catalogue into a store and back."""

import json
import shutil
import sys

import cv2
import numpy as np
import pytest
import typed_models
from stores_points import MODEL, OTHER, PAYLOADS, VECTORS

from edge.__main__ import main as edge
from edge.defects.catalogue import open_catalogue
from edge.errors import UserError
from stages.defects import commands
from stages.defects.stores import catalogue
from stages.defects.stores.catalogue import Catalogue

COUNT = 40


@pytest.fixture
def made(here):
    """A catalogue as the stage writes one."""
    (here / "catalogue").mkdir()
    about = {"format": 1, "k": 3, "limit": 0.75, "pooling": "peak"}
    catalogue.write(here / "catalogue", Catalogue(MODEL, VECTORS[:COUNT], PAYLOADS[:COUNT], about))
    return here / "catalogue"


@pytest.fixture(params=["brute", "embedded"])
def stored(request, made, capsys):
    commands.main(["push", "catalogue", "--store", request.param])
    assert f"{COUNT} points pushed, {COUNT} there" in capsys.readouterr().out
    return ["--store", request.param]


def rows(capsys, *words):
    commands.main(["query", *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys, words, why, code=1):
    with pytest.raises(SystemExit) as caught:
        commands.main(words)
    out, error = capsys.readouterr()
    assert caught.value.code == code and not out and why in error
    assert error.startswith(f"error: {words[0]}: ") and error.count("\n") == 1
    return error


def test_query(stored, capsys):
    found = rows(capsys, "catalogue", "-k", "1", *stored)
    assert [row["picture"] for row in found] == [payload["picture"] for payload in PAYLOADS[:COUNT]]
    assert [row["query"] for row in found] == list(range(1, COUNT + 1)) and max(row["distance"] for row in found) < 1e-3
    first = found[0]["id"]
    near = rows(capsys, "--like", first, "-k", "3", "--indexed", *stored)
    order = np.argsort(np.linalg.norm(VECTORS[1:COUNT] - VECTORS[0], axis=1))[:3] + 1
    assert [row["id"] for row in near] == [found[row]["id"] for row in order] and near[0]["query"] == first
    holes = rows(capsys, "--like", first, "--type", "hole", "scratch", "--line", "line 1", "-k", "40", *stored)
    wanted = [p for p in PAYLOADS[1:COUNT] if p["type"] in ("hole", "scratch") and p.get("line") == "line 1"]
    assert len(holes) == len(wanted)
    late = rows(capsys, "--like", first, "--since", "2026-05-20T00:00:00Z", "-k", "40", *stored)
    assert {row["time"][:10] for row in late} == {
        p["time"][:10] for p in PAYLOADS[1:COUNT] if p.get("time", "") > "2026-05-20"
    }


def test_corrected_types_survive_a_push_and_a_rebuild_and_come_back(stored, made, capsys):
    one = rows(capsys, "catalogue", "-k", "1", *stored)[4]["id"]
    commands.main(["label", one, "--as", "crack", *stored])
    assert "1 of 1 points are crack now" in capsys.readouterr().out
    for more in ([], ["--rebuild"]):
        commands.main(["push", "catalogue", *more, *stored])
        assert f"{COUNT} there" in capsys.readouterr().out
        (row,) = rows(capsys, "catalogue", "--type", "crack", "-k", "1", *stored)[4:5]
        assert row["id"] == one and row["corrected"]
    commands.main(["delete", rows(capsys, "catalogue", "-k", "1", *stored)[7]["id"], *stored])
    commands.main(["pull", "catalogue", *stored])
    found = catalogue.read(made)
    assert len(found.payloads) == COUNT - 1 and found.about["limit"] == 0.75 and found.model == MODEL
    assert [p["picture"] for p in found.payloads if p["type"] == "crack"] == [PAYLOADS[4]["picture"]]
    assert found.about["files"].keys() == {"vectors.safetensors", "points.jsonl"}


def test_another_model(stored, made, capsys):
    catalogue.write(made, Catalogue(OTHER, VECTORS[:3], PAYLOADS[:3]))
    for command in ("push", "query"):
        refused(capsys, [command, "catalogue", *stored], "holds embeddings of the model")
    refused(capsys, ["pull", "catalogue", *stored], "holds embeddings of the model")
    commands.main(["push", "catalogue", "--rebuild", *stored])
    assert "3 points pushed, 3 there" in capsys.readouterr().out
    assert len(rows(capsys, "catalogue", "-k", "9", *stored)) == 9


def test_a_store_of_files_is_a_catalogue(made, capsys):
    """With what a device needs of it."""
    commands.main(["push", "catalogue"])
    found = catalogue.read(made.parent / "artifacts/defect-stores/defects")
    assert found.about["limit"] == 0.75 and np.array_equal(found.vectors, VECTORS[:COUNT])
    assert found.payloads == PAYLOADS[:COUNT]


NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "words, why",
    [
        (["query"], "one of them"),
        (["query", "catalogue", "--like", NOBODY], "one of them"),
        (["query", "--like", NOBODY], f"no point {NOBODY}"),
        (["query", "--like", "seven"], "'seven': not the id"),
        (["query", "catalogue", "-k", "0"], "-k 0"),
        (["query", "catalogue", "-k", "20000"], "20000 neighbours"),
        (["query", "catalogue", "--since", "yesterday"], "'yesterday': not a time"),
        (["query", "catalogue", "--until", "2026-05-01"], "not a time"),
        (["query", "catalogue", "--type", ""], "--type"),
        (["query", "nothing"], "nothing"),
        (["query", "catalogue", "--picture", "a.png"], "catalogue/model: not found"),
        (["query", "--like", NOBODY, "--picture", "a.png"], "--picture needs a catalogue"),
        (["query", "catalogue/points.jsonl"], "points.jsonl: has a header of"),
        (["label", NOBODY, "--as", "hole"], "none of these points"),
        (["label", NOBODY, "--as", "good"], "no type of defect"),
        (["delete", NOBODY], "none of these points"),
        (["push", "nothing"], "not found"),
        (["push", "catalogue", "--name", "a/b"], "no name of a collection"),
        (["pull", "nothing"], "no catalogue"),
        (["pull", "catalogue", "--type", "never"], "no such points"),
    ],
)
def test_wrong_words(stored, capsys, words, why):
    refused(capsys, [*words, *stored], why)


def test_wrong_places(made, capsys):
    refused(capsys, ["push", "catalogue", "--at", ".", "--name", "catalogue"], "is the store itself")
    refused(capsys, ["query", "catalogue", "--store", "embedded"], "push one")
    refused(capsys, ["label", NOBODY, "--as", "hole"], "push one")


def test_a_server_needs_an_address(made, capsys, monkeypatch):
    monkeypatch.delenv("QDRANT_URL", raising=False)
    refused(capsys, ["push", "catalogue", "--store", "server"], "QDRANT_URL")


@pytest.mark.parametrize(
    "kind, module, package",
    [("embedded", "qdrant_edge", "qdrant-edge-py"), ("server", "qdrant_client", "qdrant-client")],
)
def test_a_package_that_is_missing(made, capsys, monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("QDRANT_URL", "http://localhost:6333")
    words = ["push", "catalogue", "--store", kind]
    refused(capsys, words, f"the store {kind} needs {package}: pip install {package}, or use brute")


def test_from_the_stage_to_a_store_and_back_to_a_device(tmp_path, capsys):
    """What was corrected and removed in a store is what the device knows, and goes on learning with."""
    known = typed_models.make_catalogue(tmp_path / "known", typed_models.write(tmp_path / "model"))
    picture = tmp_path / "new.png"
    cv2.imwrite(str(picture), typed_models.spot("red", 3)[0][..., ::-1])
    for kind in ("blue", "crack"):  # the same picture and box: in a store, one point
        assert edge(["learn-type", str(known), str(picture), kind]) == 0
    (added,) = (known / "thumbnails").iterdir()
    for store in ("brute", "embedded"):
        copy = shutil.copytree(known, tmp_path / f"of {store}")
        where = ["--store", store, "--at", str(tmp_path / "stores"), "--name", store]
        commands.main(["push", str(copy), *where])
        assert "14 points pushed, 13 there" in capsys.readouterr().out
        first, second, third = rows(capsys, str(copy), "--picture", str(picture), "-k", "3", *where)
        assert first["type"] == "crack" and first["distance"] < 1e-3 and first["query"] == str(picture)
        assert second["type"] == third["type"] == "red"
        commands.main(["label", first["id"], "--as", "red", *where])
        commands.main(["delete", second["id"], *where])
        commands.main(["pull", str(copy), *where])
        capsys.readouterr()
        before = [json.loads(line) for line in (copy / "points.jsonl").read_text().splitlines()]
        assert len(before) == 12 and second["picture"] not in [point["picture"] for point in before]
        (mine,) = [point for point in before if "thumbnail" in point]
        assert mine["type"] == "red" and mine["corrected"] and mine["thumbnail"] == added.name
        assert edge(["learn-type", str(copy), str(picture), "hole", "--box", "1,1,4,4"]) == 0
        after = [json.loads(line) for line in (copy / "points.jsonl").read_text().splitlines()]
        assert after[:-1] == before and after[-1]["type"] == "hole"
        assert edge(["predict", str(tmp_path / "model"), str(picture), "--types", str(copy), "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out.partition("\n")[2])
        assert told["type"] == "red" and told["distance"] < 1e-3


DAMAGE = {
    "no json": ("catalogue.json", b"{", "catalogue.json"),
    "nothing in it": ("catalogue.json", b"{}", "this is no catalogue"),
    "no model": ("catalogue.json", lambda content: content.replace(b'"model"', b'"k"'), "model, the sha256 of one"),
    "wrong model": ("catalogue.json", lambda content: content.replace(MODEL.sha256.encode(), b"x"), "'x': not the sha"),
    "other vectors": ("vectors.safetensors", b"x" * 99, "differs from sha256"),
    "other points": ("points.jsonl", b"{}\n", "differs from sha256"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_catalogues(made, capsys, name):
    file, content, why = DAMAGE[name]
    (made / file).write_bytes(content((made / file).read_bytes()) if callable(content) else content)
    refused(capsys, ["push", "catalogue"], why)


def test_what_no_device_reads_is_pushed_nowhere(made, capsys):
    """Further fields are kept as they are, as deep as edge/defects/catalogue.py takes them."""
    for levels, refusal in ((62, ""), (80, "points.jsonl: line 1: nested more than 64 deep")):
        deep = PAYLOADS[0] | {"more": json.loads("[" * levels + "]" * levels)}
        catalogue.write(
            made, Catalogue(MODEL, VECTORS[:1], [deep], {"format": 1, "k": 3, "limit": 1, "pooling": "peak"})
        )
        if refusal:
            refused(capsys, ["push", "catalogue"], refusal)
            with pytest.raises(UserError, match="line 1 is no example"):
                open_catalogue(made)
        else:
            commands.main(["push", "catalogue"])
            assert "1 points pushed" in capsys.readouterr().out and len(open_catalogue(made).points) == 1


@pytest.mark.parametrize("file", ["catalogue.json", "vectors.safetensors", "points.jsonl"])
def test_missing_files(made, capsys, file):
    (made / file).unlink()
    assert file in refused(capsys, ["push", "catalogue"], "catalogue")
    (made / file).mkdir()
    refused(capsys, ["push", "catalogue"], file)
