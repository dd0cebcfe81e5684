"""What trial runs on UCSD Ped2 showed before the student of clips got its present form: a study whose code was not
kept."""

from pathlib import Path

from stages.report.formatting import markdown_list, markdown_table, score
from stages.report.summary import read_json

STUDENTS = ("Trained on", "Mask alone", "Fine bank", "Deep bank", "Joined", "Validation: mask", "Validation: joined")
CONVLSTM = ("ConvLSTM", "Validation", "Frame AUC")


def markdown(folder: Path) -> str:
    """The tables of `folder`/trials.json."""
    found = read_json(folder / "trials.json")
    students = [
        [one["trained_on"], *(score(one[key]) for key in ("mask", "fine", "deep", "joined"))]
        + [score(one["validation"][key]) for key in ("mask", "joined")]
        for one in found["students"]
    ]
    streams = [[one["setting"], score(one["validation"]), score(one["test"])] for one in found["convlstm"]]
    notes = [
        f"A study, whose code was not kept. Students: frame AUC, micro, raw, in float, seed {found['seed']}, on every "
        "second frame of the same clips (last row: every third); joined with the weights that validation chose.",
        "ConvLSTM: all frames, 45 s of training on a GPU; of 52 ways to score each, the one that validation took.",
    ]
    return f"{markdown_table(STUDENTS, students)}\n\n{markdown_table(CONVLSTM, streams)}\n\n{markdown_list(notes)}"
