"""The page: it holds what it shows, fits a phone, asks for nothing and logs nothing."""

import base64
import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import browser
import cv2
import numpy as np
import pytest
import report_project
from matplotlib import pyplot as plt
from report_project import run

from stages.illustrate import gallery
from stages.illustrate.examples import choose
from stages.report import costs, page, plots, thresholds

CHARTS = {"ablation", "accuracy_latency", "size", "per_defect", "latency", "energy", "curves"}
PICTURES = {"examples", "defects"}


class Links(HTMLParser):
    """Collects what a page would load, and what it offers for download."""

    def __init__(self, text):
        super().__init__()
        self.images, self.downloads, self.others = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action"):
                if tag == "a" and "download" in found:
                    self.downloads[found["download"]] = value
                else:
                    (self.images if tag == "img" else self.others).append(value)


def decoded(address: str) -> bytes:
    return base64.b64decode(address.partition(";base64,")[2])


def test_the_page_holds_everything_it_shows(inside):
    html = Path("reports/index.html").read_text()
    links = Links(html)
    assert {path.stem for path in Path("reports/plots").iterdir()} == CHARTS | PICTURES
    kinds = [image.partition(";")[0] for image in links.images]
    strips = len(list(Path("reports/figures/gallery").iterdir()))
    assert strips > 3 and kinds.count("data:image/svg+xml") == len(CHARTS)
    assert kinds.count("data:image/webp") == len(PICTURES) and kinds.count("data:image/jpeg") == strips
    assert not links.others and "http" not in html.split("<body>")[0]
    assert "url(" not in html and "<script" not in html and 'name="viewport"' in html
    assert "unavailable: no such device here" in html and "Made-up CPU" in html
    for how in ("measured", "estimated", "not-measured"):
        assert f'class="how {how}"' in html
    for image in links.images:
        content = decoded(image)
        if not image.startswith("data:image/svg"):
            assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None


def test_every_plot_is_an_svg_beside_its_data(inside):
    """The SVG is well-formed, and the page offers the file of its data, which has what the plot shows."""
    downloads = Links(Path("reports/index.html").read_text()).downloads
    assert downloads.keys() == {f"{name}.csv" for name in CHARTS | {"thresholds"}}
    for name in CHARTS:
        assert ElementTree.parse(f"reports/figures/{name}.svg").getroot().tag.endswith("svg")
        assert decoded(downloads[f"{name}.csv"]) == Path(f"reports/figures/{name}.csv").read_bytes()

    def rows(name):
        return list(csv.DictReader(Path(f"reports/figures/{name}.csv").open(newline="")))

    bench = json.loads(Path("artifacts/bench/local-student-int8.json").read_text())
    mine = [row for row in rows("latency") if (row["variant"], row["device"]) == ("student-int8", "local")]
    assert [float(row["ms"]) for row in mine] == bench["blocks"][0]["samples_ms"]
    sizes = {row["variant"]: int(row["size_bytes"]) for row in rows("size")}
    assert sizes == {name: size for name, (_, _, size) in report_project.VARIANTS.items()}
    point = next(row for row in rows("accuracy_latency") if row["variant"] == "student-int8")
    assert (float(point["image_auroc"]), float(point["p50_ms"])) == (0.966, bench["latency_ms"]["p50"])
    assert {row["how"] for row in rows("energy")} >= {"measured (rapl)", "not measured (no such device here)"}
    assert len(rows("curves")) == 24 and float(rows("curves")[1]["value"]) == 0.5
    assert [row["step"] for row in rows("ablation")] == ["float", "int8", "pruned"]
    assert {row["defect"] for row in rows("per_defect")} == {"crack", "hole", "stain"}


def test_html_is_escaped(inside):
    context = page.context("<b>&", "'\"<i>", {}, [], {}, [], {})
    context |= {"verdict": {"note": "<u>", "devices": []}, "gallery": gallery.record("<s>", [])}
    html = page.render("page.html.j2", context)
    assert "<h1>&lt;b&gt;&amp;</h1>" in html and not any(tag in html for tag in ("<i>", "<u>", "<s>"))


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_energy_that_was_not_measured_says_so_in_its_place(inside):
    """Beside what was measured, in a panel of its own; and where nothing ran."""
    found = json.loads(Path("reports/summary.json").read_text())
    color = plots.colors(report_project.VARIANTS)
    drawn = costs.energy([row for row in found if row["device"]], color)
    titles = [axes.get_title(loc="left") + axes.get_title() for axes in drawn.figure.axes]
    assert titles[0] == "measured (rapl)" and titles[1] == "estimated (power profile)"
    assert titles[2].startswith("not measured (no energy source") and titles[3] == "not measured (no such device here)"
    assert texts(drawn.figure) == ["11.0 mJ", "21.5 mJ", "8.40 mJ", *["not measured"] * 4]
    nothing = costs.energy([], color)
    assert texts(nothing.figure) == ["not measured"] and not nothing.rows
    plt.close("all")


def test_the_table_of_thresholds(inside):
    """Counts, shares and marks against the scores themselves."""
    found = json.loads(Path("artifacts/eval/student-int8.json").read_text())
    kept = np.load("artifacts/eval/student-int8.npz")
    rows = [row for row in thresholds.rows({"student-int8": found}) if row["variant"] == "student-int8"]
    assert [row["own"] for row in rows] == [False, True, False, False]
    for row, one in zip(rows, found["thresholds"], strict=True):
        cells = dict(zip(thresholds.HEAD, row["plain"], strict=True))
        above, bad = kept["score"].astype(float) > one["value"], kept["label"] == 1
        counts = [(bad & above).sum(), (bad & ~above).sum(), (~bad & above).sum(), (~bad & ~above).sum()]
        assert [cells[name] for name in ("TP", "FN", "FP", "TN")] == [str(count) for count in counts]
        assert cells["Recall"] == f"{100 * above[bad].mean():.1f} %"
        assert cells["False alarms"] == f"{100 * above[~bad].mean():.1f} %"
    assert [row["cells"][0] for row in rows] == ["1 %*", "2 %", "5 %", "10 %"]
    text = Path("reports/report.md").read_text()
    assert "| student-int8 | 1 %* |" in text and "can't show a rate as small as this" in text
    (matrix,) = thresholds.matrices({"student-int8": found})
    assert sum(matrix["counts"].values()) == len(kept["score"])


def test_examples_are_spread_over_types_and_ranks():
    defects = ["good"] * 5 + ["a"] * 5 + ["b"] * 1
    scores = np.arange(11.0)
    assert choose(defects, scores, 3) == [7, 10, 2]
    assert sorted(choose(defects, scores, 5)) == [2, 5, 7, 9, 10]
    assert len(choose(defects, scores, 24)) == 7 and choose(["good"] * 3, scores, 1) == [1]


# in a browser


@pytest.fixture(scope="module")
def chromium():
    binary = browser.find()
    if binary is None:
        pytest.skip("no Chromium on this machine")
    with browser.Browser(binary) as opened:
        yield opened


WIDER = """[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll') &&
    one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(one => one.tagName)"""
BROKEN = "[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt)"
PAINTED = """new Promise(done => new PerformanceObserver(seen => done(seen.getEntries().map(one => one.startTime)))
    .observe({type: 'paint', buffered: true}))"""
SMALL = """Math.min(...[...document.querySelectorAll('p, td, th, li, figcaption, caption')]
    .map(one => parseFloat(getComputedStyle(one).fontSize)))"""


@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_without_network_shows_all_of_it(width, inside, chromium):
    path = Path("reports/index.html")
    chromium.logged.clear(), chromium.requests.clear()
    chromium.open(path, width)
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert not chromium.evaluate(WIDER) and not chromium.evaluate(BROKEN)
    assert chromium.evaluate(SMALL) >= 12
    assert max(chromium.evaluate(PAINTED)) < 5000
    lines = chromium.evaluate("document.querySelector('.verdict').innerText")
    assert "local: pruned-fp32, AUROC 0.968" in lines.replace("\n", " ")
    shown = Path("shot.png")
    chromium.screenshot(shown)
    assert len(np.unique(cv2.imread(str(shown))[:700].reshape(-1, 3), axis=0)) > 50
    assert not chromium.logged
    assert [one for one in chromium.requests if not one.startswith("data:")] == [path.resolve().as_uri()]


def test_the_browser_tests_can_fail(chromium, tmp_path):
    """What they look for is found on a page that has it."""
    (tmp_path / "bad.html").write_text(
        "<p style='width: 900px; font-size: 9px'>wide</p><img alt='gone' src='http://127.0.0.1:9/x.png'>"
        "<script>console.error('one'); throw new Error('two')</script>"
    )
    chromium.logged.clear()
    chromium.open(tmp_path / "bad.html", 400)
    assert chromium.evaluate(WIDER) and chromium.evaluate(BROKEN) == ["gone"] and chromium.evaluate(SMALL) == 9
    assert any("one" in line for line in chromium.logged) and any("Uncaught" in line for line in chromium.logged)


@pytest.mark.slow
def test_a_page_like_the_default_is_small(tmp_path, monkeypatch):
    """Pictures of the default's number and size, on which noise compresses worst: 1.5 MB at most."""
    made = report_project.make(tmp_path, size=128, per_type=20)
    monkeypatch.chdir(tmp_path)
    run(made)
    size = Path("reports/index.html").stat().st_size
    assert 200_000 < size < 1_500_000, size
