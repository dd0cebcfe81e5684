"""A toy graph for sweeps: the project's params.yaml, three stages that sleep instead of training, and their record."""

import subprocess
import sys
from pathlib import Path

import toy
import yaml
from conftest import ROOT

STAGE = '''
"""python stages/toy.py prepare|train|report"""

import ctypes, hashlib, json, os, signal, sys, time
from pathlib import Path

import yaml

ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with dvc, as the real stages do: stages/common/parent.py
params = yaml.safe_load(Path("params.yaml").read_text())
width, seed, verb = params["student"]["width"], params["seed"], sys.argv[1]
if log := os.environ.get("TOY_LOG"):
    with open(log, "a") as stream:
        stream.write(f"{verb} {width} {seed} {os.getpid()}\\n")
if verb == "prepare":
    time.sleep(PREPARE)
    Path("data").mkdir(exist_ok=True)
    Path("data/train.txt").write_text("pictures\\n")
elif verb == "train":
    if seed == 13:
        sys.exit("error: train: thirteen can't be trained")
    time.sleep(TRAIN)
    Path("artifacts").mkdir(exist_ok=True)
    noise = int.from_bytes(hashlib.sha256(f"{width} {seed}".encode()).digest()[:2], "big") / 2**16
    Path("artifacts/model.json").write_text(json.dumps({"auroc": 1 - 0.1 / (1 + 8 * width) - 0.01 * noise}))
else:
    made = json.loads(Path("artifacts/model.json").read_text())
    figures = {"variant": "student-int8", "image_auroc": made["auroc"], "aupro": 0.8, "size_bytes": int(1e6 * width)}
    figures |= {"params": int(1e6 * width), "macs": int(1e8 * width), "pixel_resolution": "full"}
    figures |= {"val_auroc": made["auroc"], "val_defects": "families", "p50_ms": time.monotonic()}
    record = {"seed": seed, "device": "local", "machine": {"cpu": "toy", "int8": None}, "order": ["int8"]}
    record["settings"] = {"student": {"width": width}, "compress": {"qat_epochs": 0}, "test_index_sha256": "0"}
    record |= {"teacher": {"image_auroc": 0.99}, "steps": {"int8": figures}}
    Path("reports").mkdir(exist_ok=True)
    Path("reports/ablation.json").write_text(json.dumps(record))
'''
GRAPH = {
    "prepare": {"deps": ["stages/toy.py"], "outs": ["data/train.txt"]},
    "train": {
        "deps": ["stages/toy.py", "data/train.txt"],
        "params": ["student.width", "seed"],
        "outs": ["artifacts/model.json"],
    },
    "report": {
        "deps": ["stages/toy.py", "artifacts/model.json"],
        "params": ["student.width", "seed"],
        "outs": ["reports/ablation.json"],
    },
}


def make(folder: Path, prepare: float = 0, train: float = 0) -> Path:
    """A git and DVC repository whose stages sleep for so many seconds."""
    for name in ("stages", "edge", ".dvc"):
        (folder / name).mkdir(parents=True)
    script = STAGE.replace("PREPARE", str(prepare)).replace("TRAIN", str(train))
    (folder / "stages/toy.py").write_text(script)
    (folder / "edge/code").touch()  # no package, which would hide the real one
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".gitignore").write_text("/data/*\n/artifacts/*\n/reports/*\n")
    (folder / ".dvcignore").write_text("__pycache__\n")
    stages = {name: {"cmd": f"exec python stages/toy.py {name}", **stage} for name, stage in GRAPH.items()}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "toy"]):
        subprocess.run(command, cwd=folder, check=True, env=toy.environment())
    return folder


def command(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """The sweep of that project as people start it."""
    environment = toy.environment(PYTHONPATH=str(ROOT), **more)
    line = [sys.executable, "-m", "experiments", "sweep", *arguments, "--scratch", str(folder.parent / "scratch")]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
