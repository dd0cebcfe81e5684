"""What `python -m experiments scale` measures and what its table makes of it."""

import json

import pytest
from conftest import ROOT

from edge.errors import UserError
from experiments import scale, scale_table
from experiments.__main__ import main

FOUND = {
    "events": {"event_bytes": 800, "sealed_bytes": 1000, "sealed_per_s": 6.94444, "kept_per_s": 0.694444},
    "broker": {"messages_per_s": 69.4444, "broker_per_core_s": 694.444},
    "clip": {"seconds": 15.0, "bytes": 10_000_000, "frame_ms": 1.0},
    "vectors": {"stored": 36_500, "dimensions": 64, "search_ms": 1.0},
    "sweep": {"unit_cpu_s": 2.0, "cached_unit_cpu_s": 1.0},
    "machine": {"cpu": "toy", "cores": 2},
    "code": None,
}
FOUND["events"]["opened_per_s"] = 69_444.4


def test_the_table_divides_what_is_there_by_what_a_device_needs(tmp_path):
    """100 events a day of 3 messages, 20 times as many at the peak: 0.069444 messages a second."""
    (tmp_path / "scale.json").write_text(json.dumps(FOUND))
    text = scale_table.markdown(tmp_path)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    by_name = {row[0]: row for row in cells}
    assert [by_name[name][3] for name in ("seal a message and keep it on disk", "seal a message")] == ["10", "100"]
    assert by_name["mosquitto to one subscriber, QoS 1"][3] == "1,000"
    assert by_name["open a message"][3] == "1,000,000"
    assert by_name["clips of 30 days on 1.00 TB"][2:] == ["1.00 GB a day", "33"]
    assert by_name["search a year's vectors within 100 ms"][3] == "100"
    assert by_name["units of a sweep, without their stages"][1] == "1,800 an hour"
    assert by_name["1,000"] == ["1,000", "69.4", "300 MB", "1.00 TB", "36.5 M", "1.00 s"]
    (tmp_path / "scale.json").write_text(json.dumps(FOUND | {"broker": None}))
    assert "| not measured (no mosquitto) |" in scale_table.markdown(tmp_path)
    (tmp_path / "scale.json").unlink()
    with pytest.raises(UserError, match="no measurement; run python -m experiments scale"):
        scale_table.markdown(tmp_path)


def test_the_sentences_of_the_pages_agree_with_the_records():
    """Where a page says in words what a record says in figures."""
    scale_page, sweeps = ((ROOT / f"docs/{name}.md").read_text() for name in ("scale", "sweeps"))
    found = json.loads((ROOT / "reports/published/scale/scale.json").read_text())
    rows = {row[0]: row for row in scale_table.rows(found)}
    assert f"about {found['sweep']['unit_cpu_s']:.1f} s of processor time" in sweeps
    assert "keeps 30 days of some thirty devices" in scale_page
    assert 25 <= int(rows["clips of 30 days on 1.00 TB"][3]) <= 35
    assert "more than 0.1 s from two hundred devices on" in scale_page
    assert 180 <= int(rows["search a year's vectors within 100 ms"][3]) <= 220
    peak = 1000 * scale_table.PEAK_RATE
    assert "`keep it on disk` above, which the peak exceeds" in scale_page and found["events"]["kept_per_s"] < peak
    assert "the peak of 1 000 devices is a small part" in scale_page and 5 * peak < found["broker"]["messages_per_s"]
    stores = json.loads((ROOT / "reports/published/stores/100k.json").read_text())["rows"]
    (indexed,) = (row["indexed_ms"]["p50"] for row in stores if row["store"] == "embedded")
    assert f"[{indexed:.2f} ms](defect-stores.md#what-they-cost) a query for 100 k points" in scale_page


def test_a_rate_is_that_of_the_fastest_block():
    """A clock that each call moves on: by a second in the first block, by half a second in the later ones."""
    now = 0.0

    def once(i: int) -> None:
        nonlocal now
        now += 1.0 if i < 10 else 0.5

    assert scale.rate(once, scale.BLOCKS * 10, lambda: now) == pytest.approx(2.0)


def test_an_impossible_time_is_refused(capsys):
    for seconds in ("0", "nan", "1e9"):
        with pytest.raises(SystemExit):
            main(["scale", "--seconds", seconds])
        assert "error: scale: --seconds" in capsys.readouterr().err


@pytest.mark.slow
def test_it_measures_every_part(tmp_path):
    found = scale.measure(0.1)
    assert found["events"]["sealed_bytes"] > found["events"]["event_bytes"] > 500
    assert found["clip"]["bytes"] > 100_000 and found["vectors"]["search_ms"] > 0
    assert found["sweep"]["cached_unit_cpu_s"] > 0.1 and 0.1 < found["sweep"]["unit_cpu_s"] < 60
    assert found["broker"] is None or found["broker"]["messages_per_s"] > 10
