"""What is really read from a DVC remote that is a folder: Python says of every file which it opens."""

import json
from pathlib import Path

WATCH = """
import json, os, sys

def note(event, arguments, store=os.path.realpath(os.environ["PULLED_STORE"]), log=os.environ["PULLED_LOG"]):
    if event not in ("open", "os.link", "os.symlink", "os.rename"):
        return
    name, read = arguments[0], event != "open" or not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if isinstance(name, (str, bytes, os.PathLike)) and read:
        name = os.path.realpath(os.fsdecode(name))
        if name.startswith(store + os.sep) and os.path.isfile(name):
            line = json.dumps([name, os.path.getsize(name)]) + "\\n"
            place = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(place, line.encode())
            os.close(place)

sys.addaudithook(note)
"""


def watched(folder: Path, store: Path) -> dict[str, str]:
    """What the environment of a command needs so that `objects` tells what it read from `store`."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(WATCH)
    return {"PYTHONPATH": str(folder), "PULLED_STORE": str(store), "PULLED_LOG": str(folder / "log.jsonl")}


def objects(folder: Path) -> dict[str, int]:
    """{hash of an object that was read: bytes}, and forgets them. DVC opens each twice: it tries to share its blocks
    before it copies it."""
    log = folder / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return {"".join(Path(name).parts[-2:]): size for name, size in map(json.loads, lines)}
