"""The Dockerfile of devices, its steps run in a Debian that debootstrap makes: minutes, as root, and only when asked
for by EDGE_VISION_DEBOOTSTRAP=1 (or the folder of a root that debootstrap has made)."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import dockerfile
import pytest
import tiny_models
from conftest import ROOT

ASKED = os.environ.get("EDGE_VISION_DEBOOTSTRAP")
DEVICE = ROOT / "deploy/Dockerfile"
asked = pytest.mark.skipif(not ASKED, reason="takes minutes: set EDGE_VISION_DEBOOTSTRAP=1")
RUNTIMES = {"litert": "ai-edge-litert", "onnx": "onnxruntime", "openvino": "openvino"}
PREDICT = "import edge, numpy; print(edge.load('/tmp/model').predict(numpy.full((16, 16, 3), 90, 'uint8')).score)"


def test_the_dockerfiles_end_without_root_and_start_what_is_installed():
    for name in ("Dockerfile", "pipeline.Dockerfile"):
        arguments, stages = dockerfile.read(ROOT / "deploy" / name)
        images = {stage.name for stage in stages}
        for stage in stages:
            assert stage.base in images or stage.base in ("${BASE}", arguments.get("BASE", "debian:bookworm-slim"))
        users = {stage.name: [rest for word, rest in stage.steps if word == "USER"] for stage in stages}
        last = {"device", "coral", "cpu", "cuda"} & images
        assert last and all(users[stage] == ["10001"] for stage in last) and stages[-1].name in last


def test_each_runtime_of_the_dockerfile_is_an_extra_of_the_package():
    named = re.search(r"RUNTIME: (.*)\)", DEVICE.read_text())[1].split(", ")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(RUNTIMES) < set(named) <= set(extras) and "link" in extras


def test_filling_and_reading(tmp_path):
    path = tmp_path / "Dockerfile"
    path.write_text("# no\nARG A=b\nFROM ${A} AS one\nARG X=1\nRUN a \\\n    # no\n    && b\nFROM one AS two\nUSER 5\n")
    arguments, (one, two) = dockerfile.read(path)
    assert arguments == {"A": "b"} and (one.base, two.base, two.steps) == ("${A}", "one", [("USER", "5")])
    assert [word for word, _ in one.steps] == ["ARG", "RUN"] and one.steps[1][1].split() == ["a", "&&", "b"]
    assert dockerfile.fill("/x/${A}/$B", {"A": "1", "B": "2"}) == "/x/1/2"


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A root of Debian bookworm."""
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap")
    if Path(ASKED).is_dir():
        return Path(ASKED)
    root = tmp_path_factory.mktemp("debian") / "root"
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=True, capture_output=True)
    return root


@asked
@pytest.mark.slow
@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_a_device_image_runs_a_model_as_nobody_special(debian, tmp_path, runtime):
    builder = dockerfile.Builder(DEVICE, ROOT, debian, tmp_path, {"RUNTIME": runtime})
    root = builder.build("device")
    user, environment = builder.users["device"], builder.environments["device"]
    assert "Run a deployed model" in builder.run(root, environment, *builder.commands["device"], "--help", user=user)
    packages = builder.run(root, environment, "/opt/edge/bin/pip", "list", user=user)
    assert all(name in packages for name in (RUNTIMES[runtime], "paho-mqtt", "cryptography")), packages
    if runtime != "openvino":
        shutil.copytree(tiny_models.build() / {"litert": "int8"}.get(runtime, runtime), root / "tmp/model")
        assert float(builder.run(root, environment, "python3", "-c", PREDICT, user=user))
    shutil.rmtree(root)


@asked
@pytest.mark.slow
def test_the_coral_image_installs_the_package_that_it_is_given(debian, tmp_path):
    """A stand-in for the package: the real one is Coral's to give."""
    package, context = tmp_path / "package", tmp_path / "context"
    (package / "DEBIAN").mkdir(parents=True)
    text = "Package: libedgetpu1-std\nVersion: 16.0\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: a\n"
    (package / "DEBIAN/control").write_text(text)
    (package / "usr/lib").mkdir(parents=True)
    (package / "usr/lib/libedgetpu.so.1").write_text("")
    context.mkdir()
    for name in ("pyproject.toml", "README.md", "edge"):
        os.symlink(ROOT / name, context / name)
    subprocess.run(["dpkg-deb", "--build", package, context / "coral.deb"], check=True, capture_output=True)
    given = {"RUNTIME": "tflite", "LIBEDGETPU": "coral.deb"}
    builder = dockerfile.Builder(DEVICE, context, debian, tmp_path / "roots", given)
    (tmp_path / "roots").mkdir()
    root = builder.build("coral")
    assert (root / "usr/lib/libedgetpu.so.1").exists() and not (root / "tmp/libedgetpu.deb").exists()
    assert "plugdev" in builder.run(root, builder.environments["coral"], "id", "edge")
    assert "tflite" in builder.run(root, builder.environments["coral"], "/opt/edge/bin/pip", "list")
