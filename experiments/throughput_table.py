"""What a frame of a clip costs on a device beside the bare model: the table of what tests/throughput.py measured."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, markdown_list, markdown_table
from stages.report.summary import read_json

HEAD = ("Model", "Pixels", "Million MACs", "Bare model", "Inference thread", "All threads", "… overlay and file")


def cells(row: dict) -> list[str]:
    """CPU time per frame; with all threads also frames a second and what share of it is the bare model."""
    plain, drawn = row["no overlay"], row["overlay and file"]
    return [
        row["model"],
        f"{row['side']} x {row['side']}",
        f"{row['macs'] / 1e6:.1f}",
        f"{plain['model_ms']:.2f} ms",
        f"{plain['thread_ms']:.2f} ms ({plain['thread_share']:.0%})",
        *(f"{one['all_ms']:.2f} ms ({one['all_share']:.0%}), {1000 / one['all_ms']:.0f} fps" for one in (plain, drawn)),
    ]


def markdown(folder: Path) -> str:
    """The table of `folder`/throughput.json, and how its figures came about."""
    path = folder / "throughput.json"
    if not path.exists():
        raise UserError(f"{path}: no measurement; python tests/throughput.py --clip 128 256 --output {path} writes one")
    found = read_json(path)
    notes = [
        f"CPU time on one core of {found['cpu'] or NONE}, each figure in turns with the bare model; in brackets what "
        f"share of it the bare model takes. Medians of {found['rounds']} rounds; {found['video']}.",
        f"Int8 TFLite with random weights, which change no time; samples of {found['frames']} frames.",
        provenance.sentence(found),
    ]
    return f"{markdown_table(HEAD, map(cells, found['rows']))}\n\n{markdown_list(notes)}"
