"""What a written video holds, whatever happens to the disk, to the process or to the codec."""

import pytest
import tiny_models
from test_edge_outputs import contents
from videos import values, write

from edge.__main__ import main
from edge.app.writer import Writer

SEGMENT = 20 / 25 / 60  # minutes: 20 frames


@pytest.fixture(scope="module")
def model():
    return str(tiny_models.build() / "int8")


# segments


def test_segments_go_on_after_a_restart(model, here):
    write(here / "in.avi", range(0, 200, 4))
    command = ["video", model, "in.avi", "--output", "out.mp4", "--segment", str(SEGMENT)]
    assert main(command) == 0
    first = contents(here)
    assert main(command) == 0
    assert {path: data for path, data in contents(here).items() if path in first} == first
    files = sorted(here.glob("out*.mp4"))
    assert [f.name for f in files] == [f"out-{i:04d}.mp4" for i in range(6)]
    assert [len(values(f)) for f in files] == [20, 20, 10] * 2


def test_segments_do_not_replace_their_input(model, here):
    write(here / "in.avi", range(0, 200, 4))
    assert main(["video", model, "in.avi", "--output", "out-0000.mp4"]) == 0
    before = (here / "out-0000.mp4").read_bytes()
    assert main(["video", model, "out-0000.mp4", "--output", "out.mp4", "--segment", "10"]) == 0
    assert (here / "out-0000.mp4").read_bytes() == before and len(values(here / "out-0001.mp4")) == 50


def test_segments_go_on_after_gaps_long_numbers_links_and_other_recorders(here, picture):
    for name in ("out-0002.mp4", "out-12345.mp4", "out-9.avi", "out-x.mp4", "about-99999.mp4"):
        (here / name).write_text("mine")
    (here / "out-12346.MP4").symlink_to("nowhere")
    before = contents(here)
    with Writer(here / "out.mp4", 25, True, SEGMENT) as one, Writer(here / "out.mp4", 25, True, SEGMENT) as two:
        for _ in range(40):
            one.put(picture)
            two.put(picture)
    new = sorted(set(contents(here)) - set(before))
    assert [path.name for path in new] == [f"out-{i}.mp4" for i in range(12347, 12351)]
    assert [len(values(path)) for path in new] == [20] * 4 and before.items() <= contents(here).items()


@pytest.fixture
def picture():
    import numpy as np

    return np.random.default_rng(5).integers(0, 255, (48, 64, 3), dtype=np.uint8)
