"""Falls on real pixels: eight AI-generated clips of a bedroom, in four of which somebody falls. That the person need
not stand first was decided after a look at them, so this is no blind test; docs/watch.md says what is found."""

import json

import pytest
import sites
from conftest import ROOT

from edge.__main__ import main
from edge.watch.adopt import adopt

pytestmark = [pytest.mark.assets, pytest.mark.slow]


def test_falls(assets, here, capsys):
    adopt("yolox", assets / "weights/yolox_nano/yolox_nano.onnx", here / "models/people")
    adopt("movenet", assets / "data/edgetpu_pairs/movenet_single_pose_lightning_ptq.tflite", here / "models/pose")
    models = [{"name": name, "folder": f"models/{name}"} for name in ("people", "pose")]
    cameras = [{"name": "room", "source": "x.mp4", "objects": "people", "pose": "pose", "rate": 10}]
    sites.write(here, sites.small(models=models, cameras=cameras, zones=[], rules=[{"rule": "fall"}]))
    found = {}
    for clip in sorted((assets / "data/scenes/falls").glob("*.mp4")):
        capsys.readouterr()
        assert main(["replay", "site.json", str(clip), "--json"]) == 0
        found[clip.name] = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["events"]["new"]
    falls = [count for name, count in found.items() if name.startswith("fall")]
    others = [count for name, count in found.items() if not name.startswith("fall")]
    assert (len(falls), len(others)) == (4, 4)
    assert (sum(count == 1 for count in falls), sum(others)) == (3, 0), found
    assert "three of four falls found, none reported in the four other clips" in " ".join(
        (ROOT / "docs/watch.md").read_text().split()
    )
