"""Types of defects on the device: the region, the catalogue's files, and the verdict."""

import hashlib
import json

import numpy as np
import pytest
import typed_models
from safetensors.numpy import load_file, save_file
from sklearn.neighbors import KNeighborsClassifier

import edge
from edge.defects import catalogue, region, vectors
from edge.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return typed_models.write(tmp_path_factory.mktemp("typed") / "model")


@pytest.fixture
def known(model, tmp_path):
    return typed_models.make_catalogue(tmp_path / "catalogue", model)


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the region


def test_pooling_is_the_weighted_mean_of_length_1():
    rng = np.random.default_rng(0)
    embedding, weights = rng.normal(size=(4, 4, 8)).astype(np.float32), rng.random((8, 8)).astype(np.float32)
    mean = np.zeros(5)
    for y in range(8):
        for x in range(8):
            mean += weights[y, x] * embedding[y // 2, x // 2, :5]
    np.testing.assert_allclose(region.pooled(embedding, weights, 5), mean / np.linalg.norm(mean), atol=1e-5)


def test_weights_follow_the_map():
    map = np.zeros((8, 8), np.float32)
    map[2, 3], map[2, 4], map[6, 6] = 1.0, 0.8, 0.4
    assert region.found(map, "region")[2, 3:5].tolist() == pytest.approx([1, 0.8])
    assert np.count_nonzero(region.found(map, "region")) == 2  # 0.4 is less than half of the way
    assert region.found(map, "soft")[6, 6] == pytest.approx(0.4**3)
    assert region.found(map, "peak").sum() == 9
    assert region.box(region.found(map, "region"), (80, 160)) == (60, 20, 40, 10)


@pytest.mark.parametrize("pooling", sorted(region.POOLINGS))
def test_a_constant_map_makes_a_vector_too(pooling):
    found = region.pooled(np.ones((4, 4, 3), np.float32), region.found(np.ones((8, 8), np.float32), pooling), 3)
    assert np.isfinite(found).all() and np.linalg.norm(found) == pytest.approx(1)


# the files


def test_vectors_are_what_the_library_reads_and_writes(tmp_path):
    wanted = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    vectors.write(tmp_path / "a", wanted)
    assert np.array_equal(load_file(tmp_path / "a")["vectors"], wanted)
    save_file({"vectors": wanted}, tmp_path / "b")
    assert np.array_equal(vectors.read(tmp_path / "b", (tmp_path / "b").read_bytes()), wanted)


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234",
        header(b"{}"),
        header(b"[1]"),
        (1 << 60).to_bytes(8, "little") + b"{}",
        header(b'{"vectors":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]}}', bytes(8)),
        header(b'{"vectors":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', bytes(12)),
        header(b'{"vectors":{"dtype":"F32","shape":[-1,2],"data_offsets":[0,8]}}', bytes(8)),
        header(b'{"vectors":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}', b"\0\0\xc0\x7f"),
        header(b'{"vectors":{"dtype":"F32","shape":[true,1],"data_offsets":[0,4]}}', bytes(4)),
    ],
)
def test_vectors_that_are_none_are_refused_in_a_line(content, tmp_path):
    assert "make the catalogue again" in refusal(vectors.read, tmp_path / "v", content)


def test_a_catalogue_comes_back_as_it_was_written(known, model):
    found = catalogue.open_catalogue(known, edge.load(model).info)
    assert len(found.points) == len(found.vectors) == 12
    assert found.points[0].type == "blue" and found.rules.k == 3
    lines = [json.loads(line) for line in (known / "points.jsonl").read_text().splitlines()]
    assert all(set(line) == {"type", "picture", "box", "score"} for line in lines)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def changed(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    if name != "catalogue.json":  # so that the digest is not what tells
        head = json.loads((folder / "catalogue.json").read_text())
        head["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "catalogue.json").write_text(json.dumps(head))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("points.jsonl", lambda b: b[:-20], "line 12 is no example"),
        ("points.jsonl", lambda b: b + b"{}\n", "line 13 is no example"),
        ("points.jsonl", lambda b: b.replace(b"{", b'{"more": %s, ' % (b"[" * 70 + b"]" * 70), 1), "line 1 is no"),
        ("points.jsonl", lambda b: b.replace(b'"red"', b'"unknown"'), "is no type of defect"),
        ("points.jsonl", lambda b: b.replace(b'"red"', b"7"), "printable characters"),
        ("points.jsonl", lambda b: b"\n".join(b.split(b"\n")[:4]), "4 examples in points.jsonl but 12 vectors"),
        ("points.jsonl", lambda b: b.replace(b'"score": 0', b'"score": NaN, "a": 0'), "can't be used"),
        ("vectors.safetensors", lambda b: b[:100], "make the catalogue again"),
        ("catalogue.json", lambda b: b"{", "not valid JSON"),
        ("catalogue.json", lambda b: b"[]", "this is no catalogue"),
        ("catalogue.json", lambda b: b.replace(b'"k": 3', b'"k": 0'), "k = 0"),
        ("catalogue.json", lambda b: b.replace(b'"region"', b'"mean"'), "pooling = 'mean'"),
        ("catalogue.json", lambda b: b.replace(b'"format": 1', b'"format": 2'), "format = 2"),
        ("catalogue.json", lambda b: b.replace(b'"limit": 0.5', b'"limit": NaN'), "limit = nan"),
    ],
)
def test_a_damaged_catalogue_is_refused_in_a_line(known, name, change, words):
    changed(known, name, change)
    assert words in refusal(catalogue.open_catalogue, known)


def test_a_file_that_differs_from_its_digest_is_refused(known):
    with open(known / "points.jsonl", "a") as stream:
        stream.write("\n")
    assert "points.jsonl: content differs from sha256" in refusal(catalogue.open_catalogue, known)


@pytest.mark.parametrize("name", ["catalogue.json", "points.jsonl", "vectors.safetensors"])
def test_a_missing_file_is_named(known, name):
    (known / name).unlink()
    assert f"{name}: not found" in refusal(catalogue.open_catalogue, known)


def test_a_catalogue_of_another_model_is_refused(known, tmp_path):
    other = typed_models.write(tmp_path / "other", seed=1)
    message = refusal(lambda: edge.load(other, types=known))
    assert "made with the model" in message and "with this model" in message


def test_a_model_without_embedding_is_refused(known):
    import tiny_models

    folder = tiny_models.build() / "onnx"
    head = json.loads((known / "catalogue.json").read_text())
    head["model"] = edge.load(folder).info.sha256
    (known / "catalogue.json").write_text(json.dumps(head))
    assert "compile.embedding: 64" in refusal(lambda: edge.load(folder, types=known))


# the verdict


def test_types_are_those_of_scikit_learn(known, model):
    detector = edge.load(model, types=known)
    found = catalogue.open_catalogue(known)
    reference = KNeighborsClassifier(3, weights=lambda d: 1 / (d + catalogue.NEAR), algorithm="brute")
    reference.fit(found.vectors, [point.type for point in found.points])
    for seed in range(12):
        prediction = detector.predict(typed_models.spot(list(typed_models.COLOURS)[seed % 3], seed)[0])
        vector, _ = found.vector(prediction)
        verdict = prediction.type
        shares = dict(zip(reference.classes_, reference.predict_proba(vector[None])[0], strict=True))
        assert verdict.type == reference.predict(vector[None])[0]
        for name, share in verdict.votes.items():
            assert share == pytest.approx(shares[name], abs=2e-3)
        assert verdict.distance == pytest.approx(reference.kneighbors(vector[None])[0][0, 0], abs=2e-3)
        assert sum(verdict.votes.values()) == pytest.approx(1)


def test_what_no_example_is_like_is_unknown(model, tmp_path):
    known = typed_models.make_catalogue(tmp_path / "c", model, limit=0.1)
    detector = edge.load(model, types=known)
    white = np.zeros((16, 16, 3), np.uint8)
    white[4:9, 4:9] = (230, 230, 0)
    verdict = detector.predict(white).type
    assert verdict.type == "unknown" and verdict.distance > 0.1 and verdict.nearest[0].type in typed_models.COLOURS
    assert detector.predict(typed_models.spot("red", 5)[0]).type.type == "red"


def test_a_good_picture_has_no_type(known, model):
    detector = edge.load(model, types=known)
    assert detector.predict(typed_models.spot("good", 1)[0]).type is None
    assert edge.load(model).predict(typed_models.spot("red", 1)[0]).type is None
