"""The project of a sweep: its commit, params, remote and cache, and whether a clean clone has what they name."""

import os
import subprocess
from pathlib import Path

from edge.errors import UserError
from experiments.axes import Unit
from experiments.records import flat
from stages.common import params
from stages.common.yamlfile import parse

UNCHECKED = ("dvc.lock",)  # tracked files that runs rewrite
NO_RUN_CACHE = ("http://", "https://", "webdav")  # DVC keeps no run cache there


def commit(revision: str | None) -> str:
    """The full hash of the revision; of HEAD only where no tracked file differs from it."""
    if not Path("params.yaml").exists():
        raise UserError("params.yaml: not found; run from the folder that holds it")
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision or 'HEAD'}^{{commit}}")
    if found is None:
        raise UserError(f"{revision or 'HEAD'}: no commit of this repository; a sweep runs what git has")
    if revision is None:
        changed = _git("diff", "--name-only", "HEAD", "--", ".") or ""
        names = [name for name in changed.splitlines() if Path(name).name not in UNCHECKED]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise UserError(f"{shown}: changed since the commit that a sweep runs; commit it, or give --commit HEAD")
    return found.strip()


def params_of(commit: str) -> dict:
    """The content of params.yaml in the commit, valid by the schema of today."""
    text = _git("show", f"{commit}:./params.yaml")
    if text is None:
        raise UserError(f"{commit[:12]}: has no params.yaml")
    tree = parse(text, f"params.yaml of {commit[:12]}")
    params.validate(tree, f"params.yaml of {commit[:12]}")
    return tree


def check_paths(tree: dict, units: list[Unit], commit: str) -> None:
    """UserError where a setting names a file or folder that lies here but that a clean clone would not have."""
    values = [flat(tree)] + [dict(unit.changes) for unit in units]
    held = [(key, value) for part in values for key, value in part.items()]
    each = [(key, one) for key, value in held for one in (value if isinstance(value, list) else [value])]
    named = dict.fromkeys((key, one) for key, one in each if isinstance(one, str))
    sources = {part.get("data.source") for part in values}
    if sources & {"folder", "clips"} and flat(tree).get("data.path") is None:
        named["data.path", "data/raw"] = None
    for key, value in named:
        path = Path(value)
        if path.is_absolute() or not _holds_files(path):
            continue
        tracked = _git("ls-tree", "-r", "--name-only", commit, "--", value, f"{value}.dvc") or ""
        if not [name for name in tracked.splitlines() if Path(name).name not in ("README.md", ".gitignore")]:
            raise UserError(
                f"{key}: {value} is not in the commit, so a clean clone has no such files; "
                "give an absolute path that every worker has, or dvc add and commit it"
            )


def _holds_files(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(p.is_file() and p.name not in ("README.md", ".gitignore") for p in path.rglob("*"))
        return path.is_file()
    except OSError:
        return False


def remote(url: str | None, local: bool) -> list[str] | None:
    """[name, address] of the DVC remote; None where this machine's cache is enough; UserError where hosts have none."""
    from dvc.config import Config, ConfigError

    name = "sweep"
    if url is None:
        try:
            config = Config.from_cwd()
            name = config["core"].get("remote")
            url = str(config["remote"][name]["url"]) if name else None
        except (ConfigError, KeyError) as error:
            raise UserError(f".dvc/config: {error}") from None
    elif "://" not in url:
        url = os.path.abspath(url)
        Path(url).mkdir(parents=True, exist_ok=True)
    if url is None and not local:
        raise UserError(
            "hosts share results through a DVC remote and this project has none; give --remote a folder that all "
            "of them see, or an address such as ssh:// or s3://"
        )
    if url and url.startswith(NO_RUN_CACHE):
        raise UserError(f"{url}: DVC keeps no run cache there; take a folder, ssh:// or s3:// (--remote)")
    return [name, url] if url else None


def cache() -> str:
    """The DVC cache of this project, which units of this machine share, so that the project has their results."""
    from dvc.config import Config

    return os.path.abspath(Config.from_cwd()["cache"].get("dir") or ".dvc/cache")


def local_workers(tree: dict) -> int:
    """As many units as the cores take with the threads that each of them trains with."""
    return max(1, len(os.sched_getaffinity(0)) // int(tree["threads"]))


def root() -> str:
    """The repository that this folder is in."""
    return (_git("rev-parse", "--show-toplevel") or "").strip()


def folder() -> str:
    """Where in the repository the project lies; empty for its root."""
    return (_git("rev-parse", "--show-prefix") or "").strip()


def _git(*arguments: str) -> str | None:
    """What git says; None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace")
    return None if done.returncode else done.stdout
