"""The tables of trial runs on clips."""

import json

from experiments import clip_trials
from stages.report.formatting import NONE


def test_every_trial_is_a_row(tmp_path):
    judged = {"mask": 0.75, "joined": 0.5}
    one = {"trained_on": "much", "frames": 9, "mask": 0.9, "fine": 0.8, "deep": 0.7, "joined": 0.85}
    little = one | {"trained_on": "little", "fine": None, "deep": None, "joined": None}
    trials = {
        "seed": 3,
        "students": [one | {"validation": judged}, little | {"validation": dict.fromkeys(judged)}],
        "convlstm": [{"setting": "128 px", "score": "a", "validation": 0.8, "test": 0.65}],
    }
    (tmp_path / "trials.json").write_text(json.dumps(trials))
    lines = clip_trials.markdown(tmp_path).splitlines()
    assert "| much | 0.900 | 0.800 | 0.700 | 0.850 | 0.750 | 0.500 |" in lines
    assert f"| little | 0.900 | {' | '.join([NONE] * 5)} |" in lines
    assert "| 128 px | 0.800 | 0.650 |" in lines and any("seed 3" in line for line in lines)
