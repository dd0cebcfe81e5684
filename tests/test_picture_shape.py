"""Samples that are no square, letterboxed or in tiles, through every stage: from the index to the exported file."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, one_line
from exporting import export
from students import body, detector
from test_params import changed, refusal

from edge.errors import UserError
from edge.geometry import Geometry
from edge.inference.detector import load
from edge.preprocess import read_image
from edge.tiling import Tiles
from experiments import shape
from hardware_runners.runner import result
from hardware_runners.runner.energy.estimate import estimate
from stages.common import params
from stages.common.dataset import Item, load_pictures, load_samples, sha256, write_index
from stages.compile import fidelity
from stages.compile.validation import validate
from stages.detectors.base import Run
from stages.detectors.imitation import Imitation
from stages.detectors.patchcore import PatchCore
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.student import Student
from stages.evaluate.__main__ import run as evaluate
from stages.fetch.sources import synthetic
from stages.graph.batchnorm import fold
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.report import tables
from stages.training import simclr, synthetic_defects
from stages.training.validation_defects import validation_defects

HEIGHT, WIDTH = 48, 80  # of a sample
torch.set_num_threads(1)


def pictures(count, height=HEIGHT, width=WIDTH, seed=0):
    """Smooth random pictures, uint8 [count, height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(60, 200, (count, 8, 8, 3)).astype(np.float32)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse]).astype(
        np.uint8
    )


# params


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input.height": 64}, "size means both height and width"),
        ({"input.width": 64, "input.height": 64}, "size means both height and width"),
        ({"input.size": None, "input.height": 64}, "name both height and width, or size for a square"),
        ({"input.size": None}, "name both height and width"),
        ({"input.size": None, "input.height": 64, "input.width": 70}, "input.width = 70: .*multiple of 16"),
        ({"input.size": None, "input.height": 16, "input.width": 64}, "input.height = 16: .*or equal to 32"),
        ({"input.fit": "crop"}, "input.fit = 'crop': must be stretch or letterbox"),
        ({"input.fit": None}, "input.fit = None"),
        ({"input.tiles.rows": 0}, "input.tiles.rows = 0"),
        ({"input.tiles.rows": 1.0}, "input.tiles.rows = 1.0"),
        ({"input.tiles.overlap": 24}, "input.tiles.overlap = 24: .*multiple of 16"),
        ({"input.tiles": {"rows": 2, "overlap": 80}}, r"tiles\.overlap = 80: must be half of a side of the tile"),
        ({"input.tiles": {"row": 2}}, "input.tiles.row: unknown key"),
        ({"input.fit": "letterbox", "teacher.score": "reweighted"}, r"padding can't be cut off .* set teacher\.score"),
        ({"teacher.motion": "dis"}, r"teacher\.motion = dis: needs clips .* input\.frames = 1; set input\.color: grey"),
    ],
)
def test_a_shape_that_can_not_be_is_refused_in_one_line(values, message):
    found = refusal(changed(values))
    assert re.search(message, found), found


def test_size_means_both_sides_and_a_default_is_one_stretched_sample():
    spec = params.validate(changed({"input.size": 256})).input
    assert (
        spec.geometry
        == params.validate(changed({"input.size": None, "input.height": 256, "input.width": 256})).input.geometry
    )
    before = {"size": 256, "color": "rgb", "frames": 1, "step": 1, "depth": None}  # a params.yaml without these keys
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    old = params.validate(tree | {"input": before}).input
    assert old.geometry.canvas == (256, 256) and old.geometry.fit == "stretch" and old.geometry.tiles.count == 1
    assert old.model_dump(exclude_defaults=True) == spec.model_dump(exclude_defaults=True) == {"size": 256}


# samples


@pytest.fixture
def index(tmp_path, monkeypatch):
    """data/train and data/test of pictures of three sizes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, splits in (("train", ["train"] * 4 + ["val"] * 5), ("test", ["test"] * 6)):
        items = []
        root = Path("data", folder)
        root.mkdir(parents=True)
        for i, split in enumerate(splits):
            height, width = [(60, 90), (100, 50), (48, 120)][i % 3]
            image, mask = pictures(1, height, width, 100 * len(splits) + i)[0], ""
            if split == "test" and i % 2:
                mask, marked = f"{i}_mask.png", np.zeros((height, width), np.uint8)
                y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
                marked[y : y + 20, x : x + 20] = 255
                image[marked > 0] = 255
                cv2.imwrite(str(root / mask), marked)
            cv2.imwrite(str(root / f"{i}.png"), image[:, :, ::-1])
            defect = "spot" if mask else "good"
            items.append(Item(f"{i}.png", split, int(bool(mask)), defect, mask, sha256(root / f"{i}.png"), str(i)))
        write_index(root, items)
    return items


GEOMETRIES = {
    "rectangle": Geometry(HEIGHT, WIDTH),
    "letterbox": Geometry(HEIGHT, WIDTH, "letterbox"),
    "tiles": Geometry(HEIGHT, WIDTH, "stretch", Tiles(2, 2, 16)),
    "letterboxed tiles": Geometry(HEIGHT, WIDTH, "letterbox", Tiles(1, 3, 32)),
}


def spec(geometry):
    return SimpleNamespace(geometry=geometry, color="rgb", frames=1, step=1, depth=None)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_training_takes_the_crops_that_the_device_takes(name, index):
    geometry = GEOMETRIES[name]
    items = index[:5]
    found = load_samples("data/test", items, spec(geometry))
    tiles = geometry.tiles.count
    assert found.shape == (5 * tiles, HEIGHT, WIDTH, 3) and found.dtype == np.uint8
    owners, places = [], []
    crops = [geometry.crops(geometry.sample(read_image(f"data/test/{item.path}"))) for item in items]
    free = [(i, t) for i in range(5) for t in range(tiles)]  # two tiles that are all padding may be equal
    for sample in found:
        owner, place = next((i, t) for i, t in free if np.array_equal(crops[i][t], sample))
        free.remove((owner, place))
        owners.append(owner)
        places.append(place)
    assert not free
    assert set(owners[::2]) == {0, 2, 4}
    assert {owner for owner in owners[: 4 * tiles][1::2]} == {1, 3}, "each half of samples is of its own pictures"
    assert tiles == 1 or places[0] != places[2 * tiles]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_pictures_for_validation_are_as_the_device_fits_them(name, index):
    geometry = GEOMETRIES[name]
    for item, found in zip(index, load_pictures("data/test", index, spec(geometry)), strict=True):
        whole = read_image(f"data/test/{item.path}")
        assert found.shape[:2] == geometry.area(whole.shape[:2])
        np.testing.assert_array_equal(geometry.sample(found), geometry.sample(whole))


# training


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(48, 112), (96, 48)])
def test_defects_fit_any_rectangle(height, width, channels):
    images = pictures(5, height, width)[..., :channels]
    samples, masks = synthetic_defects.training_pool(images, 120, 0)
    assert samples.shape == (120, height, width, channels) and masks.shape == (120, height, width)
    assert masks[1::2].any(axis=(1, 2)).all() and not masks[::2].any()
    rows, columns = np.nonzero(masks.any(axis=0))
    assert rows.min() < height / 8 and rows.max() >= height * 7 / 8, "defects are everywhere"
    assert columns.min() < width / 8 and columns.max() >= width * 7 / 8
    for family, damaged in validation_defects(images, 0).items():
        assert damaged.shape == (40, height, width, channels), family
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None]
    drawn = simclr.random_crops(places, 32, 3000, torch.Generator().manual_seed(0))
    assert drawn.shape == (3000, 2, 32, 32)
    for axis, side in enumerate((height, width)):
        assert set(drawn[:, axis, 0, 0].tolist()) == set(range(side - 31)), "every place is drawn"


@pytest.mark.parametrize("kind", synthetic.DEFECTS)
def test_a_synthetic_surface_may_be_long(kind):
    spread = []
    for index in range(6):
        image, clean, mask = synthetic.draw((64, 160), kind, index, 0)
        assert image.shape == mask.shape == (64, 160)
        assert np.array_equal(image[~mask], clean[~mask]) and 0.0005 < mask.mean() < 0.05
        spread.append(np.nonzero(mask)[1].mean())
    assert np.ptp(spread) > 30, "defects are along the whole surface"


def test_teacher_and_student_learn_from_rectangles(here):
    train, val = pictures(6), pictures(4, seed=1)
    settings, _ = PatchCore.example()
    teacher = PatchCore.fit(train, val, settings, Run(0, "test", lambda *_, **__: None))
    assert teacher.maps(val).shape == (4, HEIGHT // 4, WIDTH // 4)
    settings, _ = Student.example()
    settings.images, settings.epochs = 8, 1
    student = Student.fit(train, val, settings, Run(0, "test", lambda *_, **__: None, teacher))
    assert student.maps(val).shape == (4, HEIGHT // 8, WIDTH // 8)
    settings, _ = QuantizedStudent.example()
    compressing = Imitation(train, val, settings, Run(0, "test", lambda *_, **__: None, student))
    pruned = compressing.pruned()
    macs = [network.cost(HEIGHT, WIDTH)["macs"] for network in (pruned, compressing.body)]
    assert macs[0] <= 0.81 * macs[1]
    network, fusion = student.with_own_banks(pruned, pruned, train, val, 0)
    int8 = QuantizedStudent.of(Student(network, {"fusion": fusion}), train, val, 0)
    assert int8.maps(val).shape == (4, HEIGHT // 8, WIDTH // 8)


# exported files


@pytest.fixture(scope="module")
def student():
    """The int8 form of a random student, calibrated on rectangles."""
    torch.manual_seed(0)
    images = pictures(8)
    network = fold(detector(body(0.25), images).network)
    return QuantizedStudent(QuantNetwork.calibrated(network, to_tensor(images)), trained=False)


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    """Its int8 TFLite file with the mapping that is predicted for the Edge TPU."""
    return export(student, "edgetpu", "int8", tmp_path_factory.mktemp("exported"), pictures(2))


@pytest.mark.slow
def test_an_int8_file_of_rectangles_is_its_simulation_to_the_bit(student, exported):
    build, device = exported
    images = pictures(6, seed=3)
    wanted = student.quantized.simulate(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    found = np.stack([device.invoke(device.prepare(image))[0] for image in images])
    assert found.shape == (6, 1, HEIGHT // 8, WIDTH // 8, 1) or found.shape == (6, 1, 1, HEIGHT // 8, WIDTH // 8)
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    mapping = json.loads((device.info.folder / "model.json").read_text())["edgetpu"]
    assert mapping["how"] == "predicted" and mapping["mapped"] == mapping["ops"] > 0
    assert device.info.macs == build.network.cost(HEIGHT, WIDTH)["macs"]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), [("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32")])
def test_other_formats_take_rectangles_too(form, precision, student, tmp_path):
    _, device = export(student, form, precision, tmp_path, pictures(2))
    images = pictures(4, seed=4)
    found = np.stack([device.judge(image).raw_map for image in images])
    if precision == "int8":
        grid = device.info.quantization.output
        wanted = fidelity.simulated(student.quantized, images, ["score"]).reshape(found.shape)
        assert np.abs(np.rint(found / grid.scale) + grid.zero_point - wanted).mean() < 2
        return
    with torch.inference_mode():
        wanted = fold(student.quantized.network)(to_tensor(images))[:, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_what_evaluate_says_is_what_the_device_says(name, exported, index):
    """The same scores to the bit, costs of a whole picture, and thresholds from whole validation pictures."""
    _, device = exported
    geometry, folder = GEOMETRIES[name], Path("artifacts/models/shaped")
    folder.mkdir(parents=True)
    raw = copy.deepcopy(device.info.raw)
    raw["input"] |= {"resize": geometry.fit}
    if geometry.tiles.count > 1:
        raw["input"]["tiles"] = {"rows": geometry.tiles.rows, "columns": geometry.tiles.columns}
        raw["input"]["tiles"]["overlap"] = geometry.tiles.overlap
    for file in device.info.files:
        (folder / file).write_bytes((device.info.folder / file).read_bytes())
    (folder / "model.json").write_text(json.dumps(raw))
    section = SimpleNamespace(aupro_fpr_limit=0.3, resolution="full")
    evaluate(SimpleNamespace(threads=1, evaluate=section), "shaped")
    found, here = np.load("artifacts/eval/shaped.npz"), load(folder)
    for path, score, map in zip(found["path"], found["score"], found["map"], strict=True):
        image = read_image(f"data/test/{path}")
        said = here.predict(image)
        assert np.float32(said.score) == score
        assert said.map.shape == geometry.area(image.shape[:2])
        kept = cv2.resize(said.map, map.shape[::-1], interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(kept.astype(np.float16), map)
    record = json.loads(Path("artifacts/eval/shaped.json").read_text())
    assert record["masks"] == 3 and 0 <= record["aupro"] <= 1
    assert record.get("tiles") == (geometry.tiles.count if geometry.tiles.count > 1 else None)
    note = f"MACs are of a whole picture, which is {geometry.tiles.count} tiles (shaped)."
    assert tables.tiles_note([record], "MACs") == [note] * ("tiles" in record)


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_model_folder_says_its_shape_and_costs_of_a_whole_picture(fit, student, tmp_path, index):
    geometry = Geometry(HEIGHT, WIDTH, fit, Tiles(1, 3, 32))
    build, device = export(student, "onnx", "float32", tmp_path, pictures(2), geometry)
    info = device.info
    assert info.input.geometry == geometry and info.macs == 3 * build.network.cost(HEIGHT, WIDTH)["macs"]
    assert info.raw["input"]["resize"] == fit and info.raw["input"]["tiles"] == {"rows": 1, "columns": 3, "overlap": 32}
    estimated = result.energy(SimpleNamespace(energy=SimpleNamespace(source="estimate"), runtime=()), info, None)
    one = estimate(info.macs // 3, info.size_bytes, "float32")
    assert estimated["value_mj"] == pytest.approx(3 * one["value_mj"])
    settings = SimpleNamespace(false_alarm_rate=0.01, threshold="quantile")
    found = validate(device, load_pictures("data/test", index, spec(geometry)), settings, 0)
    scores = [device.predict(read_image(f"data/test/{item.path}")).score for item in index]
    assert found["threshold"]["value"] == max(scores), "the threshold is of scores as the device gives them"


def test_the_published_table_says_what_its_file_says(tmp_path):
    tiles = {"rows": 1, "columns": 3, "overlap": 32}
    figures = {"image_auroc": 0.9, "aupro": 0.8, "macs": 213_000_000}
    runs = [
        {"name": "whole", "input": {"height": 48, "width": 80, "tiles": {**tiles, "columns": 1}}, "chosen": figures},
        {
            "name": "cut",
            "input": {"height": 48, "width": 48, "tiles": tiles},
            "chosen": figures,
            "maximum": {**figures, "aupro": 0.7},
        },
    ]
    record = {"sets": [{"name": "set", "caption": "A set", "runs": runs}], "protocol": ["One seed."]}
    with pytest.raises(UserError, match=r"shape\.json: no measurement") as caught:
        shape.markdown(tmp_path)
    one_line(caught)
    (tmp_path / "shape.json").write_text(json.dumps(record))
    found = shape.markdown(tmp_path).splitlines()
    assert found[0] == "A set:" and "- One seed." in found
    assert "| whole | 48 x 80 | \u2013 | 0.900 | 0.800 | 213 M |" in found
    assert "| cut | 48 x 48 | 1 x 3, overlap 32 | 0.900 | 0.800 | 213 M |" in found
    assert any("blend, AUROC and AUPRO are 0.900 and 0.700 (set, cut; else 0.900 and 0.800)" in line for line in found)
