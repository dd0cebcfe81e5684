"""`make ci-report`: brings the graph up to date from the shared remote and writes reports/ci.md for a pull request.

It says what changed against the commit from which this branch started: settings, verdict, accuracy, size, latency and
plots, and which stages ran. Of what didn't change nothing runs, and only the results are pulled.
"""

import json
import subprocess
from pathlib import Path

from edge.errors import UserError
from experiments import ci_page, shared
from experiments.records import flat
from stages.common import atomic, params
from stages.common.yamlfile import parse

PAGE, BASE_PLOTS = Path("reports/ci.md"), Path("reports/ci-base")
SUMMARY, PLOTS = "reports/summary.json", Path("reports/plots")
REPORT = ("reports/index.html", SUMMARY, "reports/metrics.json", PLOTS.as_posix())
# they show pictures of the data, which a comment may carry elsewhere
WITHHELD = ("clips.png", "defects.png", "examples.png", "explanation.png", "types_examples.png")
OWN = Path("data/raw")


def add_arguments(parser) -> None:
    parser.add_argument("--base", default="origin/HEAD", help="what to compare with, where this branch left it")
    parser.add_argument("--link", default="index.html", help="where the report can be opened, for the link to it")
    parser.add_argument("--bench", action="store_true", help="first measure every item of the plan again")


def run(arguments) -> None:
    """Checks what would make the page untrue, then reproduces, compares and writes."""
    settings, plan = params.validate(params.read_yaml("params.yaml")), params.read_plan()
    head, base = commits(arguments.base)
    shared.check()
    if own := sorted(file.as_posix() for file in OWN.rglob("*.dvc")):  # DVC hashes the folder as it lies here
        shared.pull(*own)
    ran: list[str] = []
    for item in plan if arguments.bench else ():
        ran += shared.reproduce("--force", "--single-item", f"benchmark@{item}")["ran"]
    stages = shared.reproduce()
    stages = {kind: [name for name in names if name not in ran] for kind, names in stages.items()}
    stages["ran"] = ran + stages["ran"]
    benches = [f"artifacts/bench/{item}.json" for item in plan]
    shared.pull(*REPORT, *benches)
    now = state(
        Path(name).read_bytes() if Path(name).is_file() else None for name in ("params.yaml", SUMMARY, *benches)
    )
    names = sorted(path.name for path in PLOTS.glob("*.png") if path.name not in WITHHELD)
    then, pictures = earlier(base, names)
    text = ci_page.page(
        {"title": settings.report.title, "head": head, "base": base, "link": arguments.link},
        *(stages, now, then, settings.report.latency_budget_ms),
        {name: keep(name, pictures[name]) for name in names},
    )
    with atomic.file(PAGE) as temporary:
        temporary.write_text(text)
    print(f"{PAGE}: {len(stages['ran'])} stages ran, {len(stages['restored'])} came from the run cache", flush=True)


def commits(base: str) -> tuple[str, str]:
    """HEAD and where it left `base`; UserError for changes that no commit names and where there is no such commit."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
        head = _git("rev-parse", "HEAD")
    except subprocess.CalledProcessError:
        raise UserError("no commit of git here, which the report could name; commit first") from None
    if changed:
        name = changed.splitlines()[0].split(maxsplit=1)[1]
        raise UserError(f"{name}: changed and not committed; commit it, since the report names the commit")
    try:
        tracked = _git("ls-files", "dvc.lock")
        found = _git("merge-base", "HEAD", base)
    except subprocess.CalledProcessError:
        raise UserError(f"--base {base}: no commit that HEAD comes from; fetch it, or name another one") from None
    if not tracked:
        raise UserError("dvc.lock: not in git; run dvc repro once, git add dvc.lock, commit it, and dvc push")
    return head, found


def earlier(base: str, names: list[str]) -> tuple[dict, dict[str, bytes | None]]:
    """The state at the commit `base`, and its plots, from the cache or the remote; None for each that it lacks."""
    from dvc.api import DVCFileSystem  # takes a second to import

    try:
        files = DVCFileSystem(".", rev=base)
        plan = parse(files.read_bytes("hardware_runners/plan.yaml").decode(), "the plan of the base") or {}
    except Exception as error:  # whatever DVC raises for what an older commit holds
        raise UserError(f"--base {base[:7]}: can't be read: {' '.join(str(error).split())}; name another") from None

    def read(name: str) -> bytes | None:
        try:
            return files.read_bytes(name)
        except Exception:  # not in that commit, or not in the remote: DVC and its remotes raise different things
            return None

    benches = [f"artifacts/bench/{item}.json" for item in plan.get("plan") or {}]
    return state(read(name) for name in ("params.yaml", SUMMARY, *benches)), {
        name: read((PLOTS / name).as_posix()) for name in names
    }


def state(contents) -> dict:
    """{params, results, machines} of params.yaml, summary.json and each benchmark, of which some may be missing:
    {dotted key: value}, {(variant, device): result} or None, {(variant, device): its CPU}."""
    settings, summary, *benches = contents
    rows = [json.loads(bench) for bench in benches if bench]
    return {
        "params": flat(parse(settings.decode(), "params.yaml")) if settings else {},
        "results": {(r["variant"], r["device"]): r for r in json.loads(summary)} if summary else None,
        "machines": {(r["variant"], r["device"]): (r.get("machine") or {}).get("cpu") for r in rows},
    }


def keep(name: str, before: bytes | None) -> str | None:
    """Puts the plot of the base where the page can show it, and says where; None where it is equal or missing."""
    place = BASE_PLOTS / name
    place.unlink(missing_ok=True)
    if before is None or before == (PLOTS / name).read_bytes():
        return None
    place.parent.mkdir(exist_ok=True)
    with atomic.file(place) as temporary:
        temporary.write_bytes(before)
    return place.relative_to(PAGE.parent).as_posix()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
