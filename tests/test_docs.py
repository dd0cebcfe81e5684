"""README and docs: short, without dead links, and true where a file of the repository can tell."""

import json
import re
import subprocess
from itertools import pairwise

import pytest
import yaml
from conftest import ROOT
from markdown_it import MarkdownIt

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "edge/README.md", ROOT / "hardware_runners/README.md"]
)
CODE = ("stages/", "edge/", "experiments/", "hardware_runners/", "tests/", "reports/published/", "docs/")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def tokens(page):
    """The Markdown tokens of a page, those inside paragraphs and headings included."""
    for token in MarkdownIt().enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def anchors(page) -> set[str]:
    """What GitHub calls the headings of a page: small letters, no punctuation, dashes for blanks."""
    titles = [after.content for token, after in pairwise(tokens(page)) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_somewhere(page):
    links = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    for link in filter(None, links):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}: no such file"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}: no such heading"


@pages
def test_a_page_is_short_and_finished(page):
    text = page.read_text()
    assert len(text.splitlines()) <= {ROOT / "README.md": 123, ROOT / "CHANGELOG.md": 300}.get(page, 200)
    assert not [line for line in text.splitlines() if "TODO" in line]


@pages
def test_what_a_page_names_exists(page):
    """Commands, keys of params.yaml and files. The changelog's past may name what is gone."""
    text = page.read_text().partition("### Removed")[0]
    for module in set(re.findall(r"python -m (\w+(?:\.\w+)*)(?![.\w])", text)):
        path = ROOT / module.replace(".", "/")
        assert (path / "__main__.py").exists() or path.with_suffix(".py").exists(), f"{page.name}: python -m {module}"
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in set(re.findall(r"-S '?([\w.]+)=", text)):
        found = params
        for part in key.split("."):
            assert part in found, f"{page.name}: {key} is not in params.yaml"
            found = found[part]
    for path in set(re.findall(r"`([\w./]+)`", text)):
        if path.startswith(CODE):
            assert (ROOT / path).exists(), f"{page.name}: {path}: no such file"


def test_every_page_is_reached_from_the_readme():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = [token.attrGet("href") for token in tokens(page)]
        found = [(page.parent / link.partition("#")[0]).resolve() for link in links if link and ":" not in link]
        todo += [target for target in found if target.suffix == ".md" and target not in reached]
    assert set(PAGES) - reached <= {ROOT / "edge/README.md"}  # lies where the code lies, and leads here


def test_every_result_that_is_published_is_shown_once():
    text = "".join(page.read_text() for page in PAGES)
    for folder in (path.parent for path in ROOT.glob("reports/published/*/summary.json")):
        kinds = {"published": "summary.json", "ablation": "seeds", "sweep": "sweep", "speedup": "speedup"}
        for kind, needs in kinds.items():
            if (folder / needs).exists():
                assert text.count(f"\n<!-- {kind}:{folder.name} -->\n") == 1, f"{kind}:{folder.name}"
    for path in ROOT.glob("reports/published/*/kernels.json"):
        assert text.count(f"\n<!-- kernels:{path.parent.name} -->\n") == 1, path
    for path in ROOT.glob("reports/published/*/banks.json"):
        assert text.count(f"\n<!-- banks:{path.parent.name} -->\n") == 1, path


def test_the_figures_of_the_first_screen_are_those_of_the_record():
    rows = {
        row["variant"]: row for row in json.loads((ROOT / "reports/published/mtd-mobilenet/summary.json").read_text())
    }
    teacher, small = rows["teacher-onnx"], rows["pruned-int8"]
    first = " ".join((ROOT / "README.md").read_text().partition("\n## ")[0].split())
    p50 = [row["latency_ms"]["p50"] for row in (teacher, small)]
    size = [row["size_bytes"] for row in (teacher, small)]
    assert f"it takes {size[0] / 1e6:.1f} MB and {p50[0]:.0f} ms a picture" in first
    assert f"**{size[1] / 1e3:.0f} kB** and **{p50[1]:.2f} ms**" in first
    assert f"{size[0] / size[1]:.0f} times smaller and {p50[0] / p50[1]:.0f} times faster" in first
    assert f"**AUROC of {small['image_auroc']:.3f} instead of {teacher['image_auroc']:.3f}**" in first


def test_the_totals_of_the_hidden_faces_are_the_sums_of_their_rows():
    table = (ROOT / "docs/video.md").read_text().partition("| Condition | Faces |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    sums = [0, 0, 0]
    for name, *figures in rows:
        if name.startswith("**all"):
            assert sums == [int(figure) for figure in figures]
            sums = [0, 0, 0]
        else:
            sums = [total + int(figure) for total, figure in zip(sums, figures, strict=True)]
    assert [name for name, *_ in rows if name.startswith("**")] == ["**all pictures**", "**all video**"]


def test_what_other_kernels_cost_is_what_was_measured():
    """The README's sentence about equal outputs: XNNPACK equals itself on ARM, the others move the AUROC so far."""
    rows = json.loads((ROOT / "reports/published/synthetic/kernels.json").read_text())["rows"]
    xnnpack = {row["variant"]: row for row in rows if row["kernels"] == "XNNPACK" and not row["emulated"]}
    arm = [row for row in rows if row["kernels"] == "XNNPACK" and row["emulated"]]
    assert len(arm) == len(xnnpack) and all(row["exact"] == 1 and row["max_lsb"] == 0 for row in arm)
    others = [row for row in rows if row["kernels"] != "XNNPACK"]
    most = max(abs(row["image_auroc"] - xnnpack[row["variant"]]["image_auroc"]) for row in others)
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"moves the image AUROC by at most {most:.3f}" in text
    for path in (ROOT / "reports/published").glob("*/fidelity.json"):
        files = json.loads(path.read_text())
        others += [one["reference_kernels"] for name, one in files.items() if "autoencoder" not in name]
    low, high = (round(100 * of(row["exact"] for row in others)) for of in (min, max))
    largest = max(row["max_lsb"] for row in others)
    assert f"on {low}\u2013{high} % of the outputs of a student; the largest difference is {largest} steps" in text
    page = " ".join((ROOT / "docs/compression.md").read_text().split())
    assert f"on {low}\u2013{high} % of the outputs and differ by {largest} steps of the output's grid at most" in page


def test_the_speed_ratios_of_the_changelog_are_those_of_the_records():
    text = " ".join((ROOT / "CHANGELOG.md").read_text().split())
    assert "OpenVINO in int8 on the published cores" in text
    for name, machine in (("vnni-epyc", "on an AMD EPYC"), ("vnni-xeon", "on an Intel Xeon")):
        found = json.loads((ROOT / f"reports/published/speed/speedup/{name}.json").read_text())
        latency, best = found["latency_ms"], found["best_rival"]
        ratio = f"{latency[best] / latency['student-int8']:.0f} times"
        assert best.startswith("EfficientAD-S (OpenVINO, int8")
        assert re.search(rf"\b{ratio}( faster than that)? {machine}", text), name


def test_the_figures_of_the_page_on_speed_are_those_of_the_records():
    folder = ROOT / "reports/published/speed"
    found = json.loads((folder / "profile.json").read_text())
    others = {path.stem: json.loads(path.read_text()) for path in folder.glob("speedup/*.json")}
    text = " ".join((ROOT / "docs/speed.md").read_text().partition("| Operator |")[0].split())
    rows, whole, peak = found["rows"], found["whole_ms"], found["peak_gmacs"]
    speed = sum(row["macs"] for row in rows) / whole / 1e6
    assert f"at {100 * speed / peak:.0f} % of the peak**: {speed:.0f} of {peak:.0f} GMAC/s" in text
    depth = [row for row in rows if row["operator"].startswith("DEPTHWISE")]
    macs, ms = (sum(row[key] for row in depth) for key in ("macs", "ms"))
    part = 100 * macs / sum(row["macs"] for row in rows)
    assert f"take {100 * ms / whole:.0f} % of the time for {part:.0f} % of the arithmetic" in text
    assert f"at {100 * macs / ms / 1e6 / peak:.0f} % of the peak. XNNPACK" in text
    half = [row["ms"] for row in rows if "128 x 128 x" in row["shape"]]
    assert len(half) == 5 and f"half the picture's side take {100 * sum(half) / whole:.0f} %" in text
    banks = sum(row["ms"] for row in rows if row["shape"].endswith((" x 2048", " x 4096")))
    assert f"memory banks take {100 * banks / whole:.0f} %" in text
    assert not {row["operator"].split()[0] for row in rows} & {"TRANSPOSE", "PAD", "STRIDED_SLICE", "DEQUANTIZE"}
    machines = {"vnni-epyc": text.partition("**AMD EPYC**")[2].partition("**Intel Xeon**")[0]}
    xeon, _, plain = text.partition("**Intel Xeon**")[2].partition("**AMD EPYC without VNNI**")
    machines |= {"vnni-xeon": xeon, "avx2-epyc": plain.partition("<!--")[0]}
    assert machines.keys() == others.keys()
    for name, said in machines.items():
        other = others[name]
        assert other["best_rival"].startswith("EfficientAD-S (OpenVINO, int8")  # or in steps
        assert f"**{other['latency_ms']['student-int8']:.2f} ms**" in said, name
        for variant, ratio in other["times_faster_than_best_rival"].items():
            if variant.endswith("int8") and "EfficientAD" not in variant:
                assert f"{ratio:.0f} times" in said, (name, variant)
        again = other.get("again_ms", {})
        for variant in (one for one in again if one.endswith("openvino-int8") and "EfficientAD" not in one):
            assert f"{again[variant]:.2f}" in said, (name, variant)
            assert f"{again[other['best_rival']] / again[variant]:.0f}" in said, (name, variant)


def test_the_workflow_and_the_hooks_run_what_the_makefile_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o100 and "make test" in script.read_text().splitlines()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    for hook in ("ruff check", "ruff format"):
        assert hook in done.stdout and [h for h in hooks if h["entry"].startswith(f".venv/bin/{hook}")]
