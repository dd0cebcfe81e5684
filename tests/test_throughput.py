"""The table of what a frame of a clip costs, from a record of tests/throughput.py, and the tool that writes one."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from edge.errors import UserError
from experiments import throughput_table

COST = {"model_ms": 0.5, "thread_ms": 1.0, "thread_share": 0.48, "all_ms": 2.0, "all_share": 0.26}
DRAWN = {"model_ms": 0.5, "thread_ms": 1.1, "thread_share": 0.47, "all_ms": 5.0, "all_share": 0.1}
ROW = {"model": "student", "side": 128, "macs": 68_700_000, "no overlay": COST, "overlay and file": DRAWN}
RECORD = {"cpu": "some CPU", "video": "Motion JPEG", "rounds": 11, "frames": 8, "rows": [ROW], "code": None}


def test_a_table_has_milliseconds_shares_and_frames_a_second(tmp_path):
    (tmp_path / "throughput.json").write_text(json.dumps(RECORD))
    text = throughput_table.markdown(tmp_path)
    assert (
        "| student | 128 x 128 | 68.7 | 0.50 ms | 1.00 ms (48%) | 2.00 ms (26%), 500 fps | 5.00 ms (10%), 200 fps |"
        in text
    )
    assert "some CPU" in text and "11 rounds" in text


def test_without_a_measurement_it_says_what_writes_one(tmp_path):
    with pytest.raises(UserError, match=r"no measurement; .*throughput\.py --clip 128 256 --output"):
        throughput_table.markdown(tmp_path)


@pytest.mark.slow
def test_the_tool_measures_both_models_and_writes_their_record(tmp_path):
    command = [sys.executable, "tests/throughput.py", "--clip", "32", "--repeats", "3", "--output"]
    done = subprocess.run(
        [*command, str(tmp_path / "throughput.json")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "throughput.json").read_text())["rows"]
    assert [(row["model"], row["side"]) for row in rows] == [("student", 32), ("convlstm-stream", 32)]
    for row in rows:
        plain, drawn = row["no overlay"], row["overlay and file"]
        assert 0 < plain["model_ms"] < plain["thread_ms"] < plain["all_ms"] < drawn["all_ms"]
        assert 0 < plain["all_share"] < plain["thread_share"] < 1
    assert throughput_table.markdown(tmp_path).count("fps") == 4
