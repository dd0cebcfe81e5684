"""Fitting pictures to a canvas, cutting it into tiles and putting maps together again, against plain loops."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tiny_models
import videos
from conftest import one_line

import edge
from edge.__main__ import main
from edge.app import bench
from edge.errors import ModelError
from edge.geometry import FITS, Geometry, letterboxed
from edge.inference import scoring
from edge.inference.detector import Detector, picture_map
from edge.inference.modelfile import open_model, write_model
from edge.preprocess import resize
from edge.tiling import Tiles
from hardware_runners.runner.remote.measure import measure

SIZE = tiny_models.SIZE
SIZES = [(1, 1), (7, 300), (300, 7), (60, 80), (256, 256), (1280, 512), (33, 47)]


def picture(height, width, seed=0, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# letterbox


@pytest.mark.parametrize("canvas", [(64, 96), (128, 32), (48, 48)])
@pytest.mark.parametrize("size", SIZES)
def test_a_letterbox_is_the_largest_area_of_the_same_aspect_ratio(size, canvas):
    height, width = letterboxed(size, canvas)
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    assert height == canvas[0] or width == canvas[1]
    assert abs(height - max(1, size[0] * scale)) <= 0.5 and abs(width - max(1, size[1] * scale)) <= 0.5
    assert letterboxed((height, width), canvas) == (height, width), "what is fitted is fitted"


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("size", SIZES)
def test_a_letterboxed_sample_is_the_resized_picture_mirrored(size, channels):
    geometry, image = Geometry(64, 96, "letterbox"), picture(*size, channels=channels)
    height, width = geometry.area(size)
    found = geometry.sample(image)
    assert found.shape == (64, 96, channels) and found.dtype == np.uint8
    for i in range(channels) if channels != 3 else [slice(None)]:
        small = resize(image[..., i], height, width)
        wanted = cv2.copyMakeBorder(small, 0, 64 - height, 0, 96 - width, cv2.BORDER_REFLECT)
        np.testing.assert_array_equal(found[..., i], wanted)
        if channels != 3:
            np.testing.assert_array_equal(geometry.sample(image[..., i]), wanted, "a frame alone")


def test_stretching_is_resizing():
    for size in SIZES:
        np.testing.assert_array_equal(Geometry(64, 96).sample(picture(*size)), resize(picture(*size), 64, 96))


@pytest.mark.parametrize("size", SIZES)
def test_a_map_is_cut_to_the_cells_whose_centre_is_in_the_picture(size):
    geometry, map = Geometry(64, 96, "letterbox"), np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
    height, width = geometry.area(size)
    rows = sum(8 * i + 4 < height for i in range(8)) or 1
    columns = sum(8 * i + 4 < width for i in range(12)) or 1
    np.testing.assert_array_equal(geometry.joined([map], size), map[:rows, :columns])


# tiles

GRIDS = [  # tile, grid, map of a tile: cells of 8 px; of 14 px, so that tiles begin between cells; one cell; 1 row
    ((64, 96), Tiles(3, 2, 32), (8, 12)),
    ((224, 224), Tiles(2, 2, 16), (16, 16)),
    ((32, 32), Tiles(2, 3, 16), (1, 1)),
    ((32, 64), Tiles(1, 4, 16), (4, 8)),
    ((48, 32), Tiles(4, 1, 0), (6, 4)),
]


@pytest.mark.parametrize(("tile", "tiles", "cells"), GRIDS)
def test_crops_cover_the_canvas_and_overlap(tile, tiles, cells):
    canvas = tiles.covered(*tile)
    sample, seen = picture(*canvas), np.zeros(canvas, int)
    crops = tiles.crops(sample, *tile)
    assert len(crops) == tiles.count
    for i, crop in enumerate(crops):
        y, x = (i // tiles.columns) * (tile[0] - tiles.overlap), (i % tiles.columns) * (tile[1] - tiles.overlap)
        np.testing.assert_array_equal(crop, sample[y : y + tile[0], x : x + tile[1]])
        seen[y : y + tile[0], x : x + tile[1]] += 1
    assert seen.min() == 1 and seen.shape == canvas
    shared = (tiles.rows - 1) * tiles.overlap * canvas[1] if tiles.columns == 1 else (seen > 1).sum()
    assert (seen > 1).sum() == shared


def ramp(cell, cells, common, place, count):
    """The weight of a cell: it rises over what is shared with a neighbour before, and falls over the one after."""
    before = (cell + 0.5) / common if place and cell < common else 1
    after = (cells - cell - 0.5) / common if place < count - 1 and cells - cell <= common else 1
    return before * after


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("tile", "tiles", "cells"), GRIDS)
def test_stitching_against_loops(tile, tiles, cells, channels):
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(*cells, *channels)).astype(np.float32) for _ in range(tiles.count)]
    found = tiles.stitched(maps, *tile)
    fine = [found_side for found_side in cells]
    for axis, count in enumerate((tiles.rows, tiles.columns)):  # the least enlargement that puts tiles onto cells
        while count > 1 and tiles.overlap * fine[axis] % tile[axis]:
            fine[axis] += 1
    common = [tiles.overlap * fine[axis] // tile[axis] for axis in (0, 1)]
    total, weights = np.zeros(found.shape), np.zeros(found.shape[:2])
    for i, map in enumerate(maps):
        large = map if tuple(fine) == cells else cv2.resize(map, fine[::-1], interpolation=cv2.INTER_LINEAR)
        row, column = divmod(i, tiles.columns)
        for y in range(fine[0]):
            for x in range(fine[1]):
                weight = ramp(y, fine[0], common[0], row, tiles.rows)
                weight *= ramp(x, fine[1], common[1], column, tiles.columns)
                at = row * (fine[0] - common[0]) + y, column * (fine[1] - common[1]) + x
                total[at] += weight * large[y, x]
                weights[at] += weight
    np.testing.assert_allclose(weights, 1, atol=1e-9)
    np.testing.assert_allclose(found, total, atol=1e-5)


def test_one_tile_is_its_map():
    map = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    assert Tiles().stitched([map], 16, 16) is map


# on the device


def changed(kind, folder, **fields):
    """A copy of a tiny model, 16 x 16 pixels to a map of 7 x 7, whose input is described otherwise."""
    shutil.copytree(tiny_models.build() / kind, folder)
    raw = json.loads((folder / "model.json").read_text())
    raw["input"] |= fields
    write_model(folder, raw)
    return folder


OVERLAPS = [0, 8]  # 8: a map of 7 cells is enlarged to 8, half of which are shared


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("kind", ["float", "int8", "onnx"])
def test_a_picture_in_tiles_is_each_tile_alone_and_their_maps_as_one(kind, overlap, tmp_path):
    tiles = {"rows": 2, "columns": 3, "overlap": overlap}
    detector, alone = edge.load(changed(kind, tmp_path / "tiled", tiles=tiles)), edge.load(tiny_models.build() / kind)
    canvas = (2 * SIZE - overlap, 3 * SIZE - 2 * overlap)
    image = picture(50, 90)
    found, sample = detector.predict(image), resize(image, *canvas)
    crops = [
        sample[y : y + SIZE, x : x + SIZE]
        for y in range(0, canvas[0] - SIZE + 1, SIZE - overlap)
        for x in range(0, canvas[1] - SIZE + 1, SIZE - overlap)
    ]
    maps = [alone.judge(np.ascontiguousarray(crop)).raw_map for crop in crops]
    assert len(maps) == 6
    whole = Tiles(2, 3, overlap).stitched(maps, SIZE, SIZE)
    np.testing.assert_array_equal(found.raw_map, whole)
    assert found.map.shape == canvas and found.score == scoring.image_score(whole)
    np.testing.assert_array_equal(found.map, scoring.anomaly_map(whole, *canvas, 1.0))
    with pytest.raises(ValueError, match=rf"must be uint8 \[{canvas[0]}, {canvas[1]}, 3\]"):
        detector.judge(sample[:-1])


def test_a_score_of_the_model_is_that_of_the_tile_with_the_highest(tmp_path):
    tiles = {"rows": 1, "columns": 3, "overlap": 0}
    folder = changed("onnx", tmp_path / "model", tiles=tiles)
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, raw | {"score": raw["score"] | {"rule": "output"}})
    image = picture(SIZE, 3 * SIZE)
    alone = edge.load(tiny_models.build() / "onnx")
    means = [alone.judge(image[:, x : x + SIZE]).raw_map.mean() for x in (0, SIZE, 2 * SIZE)]
    assert edge.load(folder).predict(image).score == pytest.approx(max(means), abs=1e-6)


def test_padding_never_counts(tmp_path, monkeypatch):
    """Whatever a model says of it: the map is cut before the score, the enlargement and the blur."""
    detector = edge.load(changed("float", tmp_path / "model", resize="letterbox"))
    image = picture(40, 90)
    height, width = letterboxed((40, 90), (SIZE, SIZE))
    assert (height, width) == (7, 16)
    before = detector.predict(image)
    invoke = detector.runtime.invoke

    def alarmed(feeds, wanted):
        found = [values.copy() for values in invoke(feeds, wanted)]
        found[0][:, 3:] = 1e6  # 7 rows of 16 / 7 px: the centres of the first three are in the picture
        return found

    monkeypatch.setattr(detector.runtime, "invoke", alarmed)
    after = detector.predict(image)
    assert after.score == before.score and after.raw_map.shape == (3, 7)
    np.testing.assert_array_equal(after.map, before.map)
    assert after.map.shape == (7, 16)
    whole = cv2.copyMakeBorder(before.raw_map, 0, 4, 0, 0, cv2.BORDER_REPLICATE)
    large = cv2.resize(whole, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)[:7]
    np.testing.assert_allclose(before.map, cv2.GaussianBlur(large, (9, 9), 1.0, borderType=cv2.BORDER_REPLICATE))
    np.testing.assert_array_equal(picture_map(detector.info, before.raw_map, (40, 90)), before.map)


def test_a_letterbox_of_tiles(tmp_path):
    tiles = {"rows": 1, "columns": 4, "overlap": 8}
    detector = edge.load(changed("float", tmp_path / "model", resize="letterbox", tiles=tiles))
    geometry = detector.info.input.geometry
    assert geometry.canvas == (16, 40)
    for size in SIZES:
        found = detector.predict(picture(*size))
        assert found.map.shape == geometry.area(size)
        assert np.isfinite(found.map).all() and found.raw_map.shape[0] <= 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize": "crop"}, "input.resize = 'crop': must be 'stretch' or 'letterbox'"),
        ({"tiles": {"rows": 0, "columns": 1, "overlap": 0}}, "input.tiles.rows = 0: must be a whole number of at"),
        ({"tiles": {"rows": 65, "columns": 1, "overlap": 0}}, "and at most 64"),
        ({"tiles": {"rows": True, "columns": 1, "overlap": 0}}, "input.tiles.rows = True"),
        ({"tiles": {"rows": 2, "columns": 1}}, "input.tiles.overlap: missing field"),
        ({"tiles": {"rows": 2, "columns": 1, "overlap": -1}}, "input.tiles.overlap = -1"),
        ({"tiles": {"rows": 2, "columns": 1, "overlap": 9}}, "overlap by half of a side at most"),
        ({"tiles": {"rows": 2, "columns": 1, "overlap": 0, "x": 1}}, "input.tiles.x: unknown field"),
        ({"tiles": [2, 1]}, "input.tiles = .*must be an object"),
        ({"tiles": None}, "input.tiles = None: must be an object"),
    ],
)
def test_a_wrong_description_is_refused_in_one_line(fields, message, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models.build() / "float", folder)
    raw = json.loads((folder / "model.json").read_text())
    raw["input"] |= fields
    (folder / "model.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=message) as caught:
        open_model(folder)
    one_line(caught)


def test_padding_in_a_score_that_the_model_computes_is_refused(tmp_path):
    folder = changed("onnx", tmp_path / "model", resize="letterbox")
    raw = json.loads((folder / "model.json").read_text())
    with pytest.raises(ModelError, match=r"input\.resize = 'letterbox': must be 'stretch' where"):
        write_model(folder, raw | {"score": raw["score"] | {"rule": "output"}})


@pytest.fixture
def both(tmp_path):
    """A model that takes letterboxed pictures in two tiles."""
    return changed("float", tmp_path / "m", resize="letterbox", tiles={"rows": 1, "columns": 2, "overlap": 8})


def test_the_command_line_takes_pictures_and_videos(both, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    frames = [picture(48, 64, seed) for seed in range(3)]
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"in/{i}.png"), frame[:, :, ::-1])
    assert main(["predict", str(both), str(tmp_path / "in"), "--json", "--overlay", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)
    detector = edge.load(both)
    assert [row["score"] for row in rows] == [detector.predict(frame).score for frame in frames]
    for row in rows:
        assert all(x + w <= 64 and y + h <= 48 for x, y, w, h in row["boxes"])
    with edge.stream(detector, videos.write(tmp_path / "in.avi", (0, 100, 200))) as seen:
        for frame in seen:
            assert frame.score == edge.load(both).predict(frame.image).score and frame.map.shape == (16, 21)
    assert main(["info", str(both)]) == 0
    assert "tiles      1 x 2, overlap 8: a picture of 16 x 24" in capsys.readouterr().out


def test_times_are_of_all_tiles(both, monkeypatch):
    detector, runs = edge.load(both), []
    invoke = Detector.invoke
    monkeypatch.setattr(Detector, "invoke", lambda self, *given: runs.append(1) or invoke(self, *given))
    bench.measure(detector, 5)
    assert len(runs) == 2 * 2 * (bench.WARMUP + 5)
    runs.clear()
    found = measure(str(both), 4, 3, [1])
    assert len(runs) == 2 * (3 + 4 + 4) and found["blocks"][0]["runs"] == 4


def test_every_fit_keeps_what_is_fitted_and_stays_on_the_canvas():
    for name, fit in FITS.items():
        for size in SIZES:
            height, width = fit(size, (64, 96))
            assert 1 <= height <= 64 and 1 <= width <= 96 and fit((height, width), (64, 96)) == (height, width), name
