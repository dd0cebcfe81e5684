"""The passes of the face finder, and the paths of faces through a video."""

from types import SimpleNamespace

import cv2
import face_table
import face_variants
import numpy as np
import pytest
from face_conditions import cut, motion, squeezed

from edge.app import faces
from edge.app.faces import FULL, LEAST, MIRRORED, PASSES, SMALL, WIDE, FaceFinder
from edge.app.paths import MEMORY, Paths
from edge.preprocess import read_image

random = np.random.default_rng(3)


class Net:
    """Stands for YuNet: notes the sizes that it is shown, and finds nothing or what it is told to find."""

    def __init__(self, found=None):
        self.found, self.sizes, self.size = found, [], (320, 320)  # as it is created

    def setInputSize(self, size):
        self.size = size

    def detect(self, image):
        assert image.shape[1::-1] == self.size and image.dtype == np.uint8
        self.sizes.append(self.size)
        return 1, self.found


def finder(monkeypatch, tmp_path, net, **how):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=lambda *_: net))
    made = FaceFinder(tmp_path / "net.onnx", **how)
    net.sizes.clear()
    return made


def row(x, y, w, h, score):
    """What YuNet returns for a face: the box, five points, the score."""
    return np.array([[x, y, w, h, *[0] * 10, score]], np.float32)


# the size of the search


@pytest.mark.parametrize(
    "shape, smallest, longest",
    [
        ((480, 640), None, 640),
        ((128, 128), None, 128),
        ((720, 1280), None, 640),
        ((1080, 1920), None, 960),  # faces of 20 pixels are 10 wide there
        ((1080, 1920), 30, 640),
        ((1080, 1920), 12, 1600),
        ((1080, 1920), 4, 1920),
        ((2160, 3840), None, 1920),
        ((16384, 16384), None, 4096),
    ],
)
def test_the_search_size_follows_from_frame_and_smallest_face(shape, smallest, longest):
    scale = faces.search_scale(shape, smallest)
    assert round(scale * max(shape)) == longest
    if longest not in (max(shape), faces.MOST):
        least = smallest or min(20, max(shape) / 64)
        assert scale * least == pytest.approx(LEAST)


def test_each_pass_sees_its_size(monkeypatch, tmp_path):
    net = Net()
    find = finder(monkeypatch, tmp_path, net)
    find(np.full((480, 640, 3), 200, np.uint8))
    assert net.sizes == [(640, 480), (160, 120), (480, 360), (640, 240)]  # nothing is dark
    net.sizes.clear()
    find(np.full((480, 640, 3), 5, np.uint8))
    assert net.sizes[-1] == (320, 240) and len(net.sizes) == len(PASSES)


def test_in_a_video_two_passes_take_turns(monkeypatch, tmp_path):
    net = Net()
    find = finder(monkeypatch, tmp_path, net, in_turn=True)
    for _ in range(4):
        find(np.full((480, 640, 3), 200, np.uint8))
    turns = [size for size in net.sizes if size in ((480, 360), (640, 240))]
    assert len(net.sizes) == 12 and turns[0] != turns[1] and turns[:2] == turns[2:]


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 5000), (7, 9)])
@pytest.mark.assets
def test_pictures_of_any_shape_are_searched(assets, shape):
    find = FaceFinder(face_variants.model(assets))
    assert find(np.full((*shape, 3), 3, np.uint8)).shape[1] == 5


def test_a_pass_gives_boxes_in_pixels_of_the_picture(monkeypatch, tmp_path):
    """Each pass is told one box at its own size; all of them mean the same place of a frame of 1280 x 720."""
    place = np.array([400, 200, 100, 120.0])
    for one in PASSES:
        net = Net()
        find = finder(monkeypatch, tmp_path, net, passes=(one,))
        left, top = one.mirror * one.width * 640, one.mirror * one.height * 360
        shown = place / 2 * ([one.width, one.height] * 2)
        net.found = row(*(shown + np.array([left, top, 0, 0])), one.sure)
        assert np.allclose(find(np.full((720, 1280, 3), 5, np.uint8)), [*place, 1], atol=0.01), one


def test_what_the_border_cuts_needs_less(monkeypatch, tmp_path):
    for x, expected in ((200, 0.5), (-5, 1.0)):
        net = Net()
        find = finder(monkeypatch, tmp_path, net, passes=(MIRRORED,))
        net.found = row(80 + x / 2, 60 + 100, 40, 50, 0.2)
        assert find(np.full((480, 640, 3), 200, np.uint8))[0, 4] == pytest.approx(expected)


# geometry


def test_a_box_in_a_reflection_is_where_the_face_is():
    """Against pixels: what is painted into the reflection and folded back is what the box is turned into."""
    width, height = 40, 30
    for _ in range(200):
        w, h = random.integers(2, 9, 2)
        x, y = random.integers(-8, width + 8 - w), random.integers(-6, height + 6 - h)
        back = faces.unfolded(np.array([[x, y, w, h]], float), width, height)[0]
        columns, rows = np.arange(x, x + w), np.arange(y, y + h)
        if 0 <= x + w / 2 <= width:
            assert back[0] == x
        else:
            there = {-1 - c if x < 0 else 2 * width - 1 - c for c in columns}
            assert set(range(int(back[0]), int(back[0] + w))) == there
        if not 0 <= y + h / 2 <= height:
            there = {-1 - r if y < 0 else 2 * height - 1 - r for r in rows}
            assert set(range(int(back[1]), int(back[1] + h))) == there
        assert list(back[2:]) == [w, h]


def test_boxes_of_one_face_become_one_that_holds_the_sure_ones():
    boxes = np.array(
        [
            [10, 10, 20, 20, 0.5],  # a doubt beside a sure one: left out
            [12, 10, 20, 20, 1.5],
            [8, 10, 20, 24, 2.0],
            [60, 60, 10, 10, 0.3],  # two doubts: the first one stays as it is
            [62, 60, 10, 10, 0.4],
            [90, 10, 5, 5, 1.0],
        ]
    )
    found = faces.merged(boxes)
    expected = [[8, 10, 24, 24, 2.0], [90, 10, 5, 5, 1.0], [60, 60, 12, 10, 0.4]]
    assert np.allclose(found, expected)
    assert faces.merged(np.empty((0, 5), np.float32)).shape == (0, 5)


def test_overlap_is_intersection_over_union():
    for _ in range(50):
        a, b = random.integers(0, 12, (2, 4))
        a[2:] += 1
        b[2:] += 1
        one, other = np.zeros((2, 30, 30), bool)
        one[a[1] : a[1] + a[3], a[0] : a[0] + a[2]] = True
        other[b[1] : b[1] + b[3], b[0] : b[0] + b[2]] = True
        assert faces.overlaps(a[None].astype(float), b.astype(float))[0] == pytest.approx(
            (one & other).sum() / (one | other).sum()
        )


def test_dark_places_are_lifted_and_the_others_stay():
    frame = np.full((240, 320, 3), 150, np.uint8)
    assert not faces.is_dark(frame)
    frame[60:180, 40:160] = random.integers(4, 12, (120, 120, 3))
    assert faces.is_dark(frame)
    light = faces.lifted(frame)
    assert light[100:140, 80:120].mean() > 60 and abs(light[:, 280:].mean() - 150) < 2


# the paths of faces


def at(number, start=(100.0, 80.0), speed=(6.0, 2.0), size=(30.0, 40.0)):
    """The box of a face that moves evenly, and its confidence."""
    return np.array([start[0] + speed[0] * number, start[1] + speed[1] * number, *size])


def follow(sightings, frames, hold=5, ahead=5):
    """The boxes that are hidden in each frame, asked for `ahead` frames late."""
    paths, out = Paths(hold, ahead), {}
    for number in range(frames + ahead):
        found = [b for b in sightings.get(number, ())] if number < frames else []
        paths.see(np.array(found, float).reshape(-1, 5))
        if number >= ahead:
            out[number - ahead] = paths.hidden(number - ahead)
    return out


def holds(boxes, box) -> bool:
    """Whether one of the boxes holds this one, but for a tenth of its size, which the guard's margin covers."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    slack = 0.1 * box[2:]
    return bool(((low <= box[:2] + slack) & (high >= box[:2] + box[2:] - slack)).all(1).any())


def sure(number, confidence=1.0, **how):
    return [[*at(number, **how), confidence]]


def test_a_face_that_is_missed_now_and_then_is_hidden_all_the_way():
    """Seen in frames 10, 11, 14, 20 and 21: something is hidden from 5 to 26, and the face from 6 on. When frame 5 has
    to go, one sighting is known, and no speed."""
    hidden = follow({n: sure(n) for n in (10, 11, 14, 20, 21)}, 40)
    assert [n for n, boxes in hidden.items() if len(boxes)] == list(range(5, 27))
    assert all(holds(hidden[n], at(n)) for n in range(6, 27))


def test_a_doubtful_face_counts_beside_a_sure_one_alone():
    doubts = {n: sure(n, 0.3) for n in range(30)}
    assert not any(len(boxes) for boxes in follow(doubts, 30).values())
    hidden = follow({**doubts, 4: sure(4)}, 30)
    assert all(holds(hidden[n], at(n)) for n in range(30))
    hidden = follow({**{n: sure(n, 0.3) for n in range(60)}, 20: sure(20)}, 60)
    last = max(n for n, boxes in hidden.items() if len(boxes))
    assert last == 20 + MEMORY + 5  # a second, and the frames that it stays
    far = {n: sure(n, 0.3, start=(400, 300)) for n in range(30)}
    hidden = follow({**far, 4: sure(4)}, 30)
    assert not any(holds(boxes, at(n, start=(400, 300))) for n, boxes in hidden.items())


def test_before_it_is_sure_a_doubtful_face_leads_back():
    """It slows down: the straight line back from where it was seen would miss it, the doubts show the way."""
    where = {n: 10.0 * n - 0.6 * n * n / 2 for n in range(16)}
    boxes = {n: np.array([100 + x, 80, 20, 24]) for n, x in where.items()}
    seen = {n: [[*b, 0.3 if n < 8 else 1.2]] for n, b in boxes.items() if n >= 3}
    hidden = follow(seen, 16)
    assert all(holds(hidden[n], boxes[n]) for n in range(3, 16))


def test_two_faces_that_cross_stay_two():
    seen = {n: [*sure(n), *sure(n, start=(400, 80), speed=(-6, 2))] for n in range(50) if n % 3 == 0}
    hidden = follow(seen, 49)
    for n in range(49):
        assert holds(hidden[n], at(n)) and holds(hidden[n], at(n, start=(400, 80), speed=(-6, 2)))


def test_without_hold_each_picture_stands_for_itself():
    hidden = follow({0: sure(0), 1: sure(1, 0.3), 3: sure(3)}, 5, hold=0, ahead=0)
    assert [len(hidden[n]) for n in range(5)] == [1, 0, 0, 1, 0]


def test_a_long_video_takes_no_more_memory():
    paths = Paths(5, 5)
    for number in range(3000):
        boxes = [*sure(number % 100), *sure(0, 0.3, start=tuple(random.uniform(0, 900, 2)))]
        paths.see(np.array(boxes, float))
        if number >= 5:
            paths.hidden(number - 5)
        assert len(paths._paths) < 40 and all(len(path.boxes) < 20 for path in paths._paths)


# photographs


@pytest.mark.assets
def test_each_pass_finds_what_the_full_one_misses(assets):
    """Not by the passes' own measure: whether the middle of the face is painted over."""
    path = face_variants.model(assets)
    image = read_image(assets / "data" / "photos" / "grace_hopper.bmp")
    x, y, w, h = face_variants.FACES["grace_hopper.bmp"][0]
    face = np.array([x, y, w, h], float)
    hard = {
        MIRRORED: cut(image, face, "bottom", 0.3),
        WIDE: squeezed(image, face, 75),
        SMALL: (motion(image, 75, 90), face),
        faces.LIFTED: ((image * 0.03).astype(np.uint8), face),
    }
    for extra, (picture, where) in hard.items():
        found = {}
        for passes in ((FULL,), (FULL, extra)):
            guard = face_table.Guard("fill", FaceFinder(path, passes=passes))
            found[passes] = face_table.covered(face_table.painted(guard, picture), where)[1]
        assert list(found.values()) == [False, True], extra
