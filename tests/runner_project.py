"""A DVC project of benchmark and report alone: real stages, made-up evaluations, a model of a few milliseconds, and
real SSH servers as devices."""

import contextlib
import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import report_project
import ssh_hosts
import tiny_models
import toy
import yaml
from conftest import ROOT

from edge.inference.modelfile import write_model
from hardware_runners.runner import transports
from hardware_runners.runner.devices import Device
from stages.report import dependencies

VARIANT = "student-fp32"
CODE = ("stages", "edge", "hardware_runners")


@functools.cache
def model() -> Path:
    """A model folder: four convolutions at 96 x 96, above 1 ms on one core."""
    import atexit

    import onnx
    from onnx import TensorProto, helper, numpy_helper

    root = Path(tempfile.mkdtemp(prefix="runner-model-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    random = np.random.default_rng(0)
    shapes = [(32, 3, 3, 3), (32, 32, 3, 3), (32, 32, 3, 3), (1, 32, 3, 3)]
    names = ["image", "a", "b", "c", "anomaly_map"]
    kernels = [(random.normal(size=s) / np.sqrt(9 * s[1])).astype(np.float32) for s in shapes]
    nodes = [
        helper.make_node("Conv", [names[i], f"k{i}"], [names[i + 1]], strides=[2 if i == 0 else 1] * 2, pads=[1] * 4)
        for i in range(4)
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 96, 96])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 1, 48, 48])],
        [numpy_helper.from_array(kernel, f"k{i}") for i, kernel in enumerate(kernels)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), root / "model.onnx")
    info = tiny_models.describe("model.onnx", "onnx", "float32", "nchw", None)
    info["input"] |= {"height": 96, "width": 96}
    info["outputs"][0] |= {"height": 48, "width": 48}
    info["cost"] = {"params": int(sum(k.size for k in kernels)), "macs": int(sum(k.size for k in kernels)) * 48 * 48}
    write_model(root, info)
    return root


class Project:
    """The folder, the HOME of its user, and the SSH servers by device name."""

    def __init__(self, folder: Path, devices: list[str], runs: int = 100):
        self.folder, self.home = folder / "project", folder / "home"
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        report_project.make(self.folder, per_type=2)
        for name in CODE:
            shutil.copytree(
                ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        for name in (".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, self.folder)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["variants"] = {VARIANT: params["variants"]["student-fp32"]}
        params["baselines"] = {}
        params["benchmark"] = {"runs": runs, "warmup": 2, "threads": [1]}
        params["report"]["examples"] = 1
        self.write("params.yaml", params)
        shutil.rmtree(self.folder / "artifacts/bench")
        shutil.copytree(model(), self.folder / "artifacts/models" / VARIANT)
        self.write("hardware_runners/plan.yaml", {"plan": {}})
        graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        graph["stages"] = {name: graph["stages"][name] for name in ("benchmark", "illustrate", "report")}
        absent = ("artifacts/eval", "artifacts/bench", "artifacts/defects", "reports/curves", "reports/published")
        for name in ("illustrate", "report"):
            deps = [d for d in graph["stages"][name]["deps"] if not d.startswith(absent)]
            graph["stages"][name]["deps"] = [*deps, "BEGIN", "END"]
        text = yaml.safe_dump(graph, sort_keys=False)
        for mark in ("BEGIN", "END"):  # a dumped comment is none
            text = text.replace(f"- {mark}\n", f"{getattr(dependencies, mark)}\n")
        (self.folder / "dvc.yaml").write_text(dependencies.fill(text, params["variants"], {}, {}))
        for command in (["git", "init", "-q"], [*toy.dvc_command(), "init", "-q"]):
            subprocess.run(command, cwd=self.folder, check=True, env=toy.environment())
        self.hosts: dict[str, ssh_hosts.Host] = {}
        for number, name in enumerate(devices):
            self.hosts[name] = host = ssh_hosts.Host(folder / name, self.home, number)
            host.trust()

    def write(self, name: str, tree) -> None:
        (self.folder / name).write_text(yaml.safe_dump(tree, sort_keys=False))

    def close(self) -> None:
        for host in self.hosts.values():
            host.restore()
            host.close()

    def environment(self) -> dict[str, str]:
        return toy.environment(HOME=str(self.home))

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)

    def runners(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("python", "-m", "hardware_runners", *arguments)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run(*toy.dvc_command(), *arguments)

    def enrol(self, name: str, **more) -> subprocess.CompletedProcess:
        """Enrols a device as a user does, then sets limits short enough for tests."""
        host = self.hosts[name]
        done = self.runners("enrol", name, host.address, "--port", str(host.port), "--python", str(ssh_hosts.PYTHON))
        assert done.returncode == 0, done.stderr
        self.change(
            name, **{**{k: v for k, v in host.device(name).items() if k in ("folder", "lock", "limits")}, **more}
        )
        return done

    def change(self, name: str, **keys) -> None:
        path = f"hardware_runners/inventory/{name}.yaml"
        tree = yaml.safe_load((self.folder / path).read_text())
        fingerprint = tree.pop("fingerprint")
        self.write(path, {**tree, **keys, "fingerprint": keys.get("fingerprint", fingerprint)})

    def row(self, name: str) -> dict | None:
        path = self.folder / f"artifacts/bench/{name}-{VARIANT}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def leftovers(self) -> list[str]:
        return [line for host in self.hosts.values() for line in host.leftovers()]


def scores(project: Project, names: list[str]) -> np.ndarray:
    """What the model says about test pictures, here."""
    files = {name: (project.folder / "data/test" / name).read_bytes() for name in names}
    found = transports.score(Device(name="local", transport="local"), model(), files, "test")["scores"]
    return np.array([found[name] for name in names])


@contextlib.contextmanager
def project(folder: Path, devices: list[str], **more):
    """A project with its devices enrolled; the servers and links are gone afterwards."""
    made = Project(folder, devices, **more)
    try:
        for name in devices:
            made.enrol(name)
        yield made
    finally:
        made.close()
