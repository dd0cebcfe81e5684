"""Compiled files: what the parser reads, damaged ones, the pairs of source and compiled file, the command."""

import collections
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from edgetpu_models import compiled, convolutions, package

from edge.errors import UserError
from stages.compile.edgetpu.graph import read
from stages.compile.edgetpu.mapping import parameter_bytes, predict
from stages.compile.edgetpu.package import read_compiled

CUTS, FLIPS = 150, 300


def test_package_with_cached_and_streamed_parameters(tmp_path):
    found = read_compiled(compiled(package(300, 44, runtime=13)).write(tmp_path / "model.tflite"))
    assert (found.on_chip_bytes, found.streamed_bytes, found.min_runtime_version) == (300, 44, 13)
    assert [op.kind for op in found.cpu] == ["SOFTMAX"] and found.packages[0].compiler == "cl/1"


def test_package_that_stands_alone_streams_all(tmp_path):
    parts = package(10, runtime=10), package(500, stand_alone=True, runtime=14)
    found = read_compiled(compiled(*parts).write(tmp_path / "model.tflite"))
    assert (found.on_chip_bytes, found.streamed_bytes) == (10, 500)
    assert len(found.packages) == 2 and found.min_runtime_version == 14


def test_a_source_is_not_compiled_and_a_compiled_file_is_no_source(tmp_path):
    with pytest.raises(UserError, match="not compiled for the Edge TPU"):
        read_compiled(convolutions().write(tmp_path / "source.tflite"))
    with pytest.raises(UserError, match="already compiled"):
        predict(compiled(package()).write(tmp_path / "compiled.tflite"))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL3", b"<html>not found</html>", bytes(5000)])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for reader in (read, predict, read_compiled):
        with pytest.raises(UserError, match=r"model\.tflite: (not a|damaged) \.tflite file"):
            reader(path)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        read(tmp_path / "none.tflite")
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read(tmp_path)


def cut_everywhere(reader, content: bytes, path) -> None:
    for length in np.linspace(0, len(content) - 8, CUTS).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(UserError):
            reader(path)
            pytest.fail(f"cut at {length} of {len(content)}")


@pytest.mark.parametrize("reader", [predict, read_compiled])
def test_cut_files_are_refused(reader, tmp_path):
    path = tmp_path / "model.tflite"
    net = convolutions(3) if reader is predict else compiled(package(300, 44))
    cut_everywhere(reader, net.write(path).read_bytes(), path)


@pytest.mark.parametrize("reader", [predict, read_compiled])
def test_changed_bytes_end_in_one_line_or_none(reader, tmp_path):
    """A changed byte may leave a file that can be read, but nothing else than a UserError may come of it."""
    path, random = tmp_path / "model.tflite", np.random.default_rng(0)
    net = convolutions(3) if reader is predict else compiled(package(300, 44))
    content, refused = net.write(path).read_bytes(), 0
    for _ in range(FLIPS):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            reader(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < FLIPS


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.compile.edgetpu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_command_prints_the_prediction(tmp_path):
    net = convolutions(2)
    net.op("HARD_SWISH", [net.graph.outputs[0]], [net.tensor([1, 8, 8, 4])])
    done = run(net.write(tmp_path / "model.tflite"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0].split() == ["0", "CONV_2D", "mapped"]
    assert lines[2].split(maxsplit=2) == ["2", "HARD_SWISH", "CPU     not a supported operation (documented)"]
    assert lines[3].startswith("predicted: 2 of 3 operators mapped, 1 on the CPU; 320 parameter bytes")
    assert "not a compile result" in lines[3]


def test_command_prints_what_a_compiled_file_holds(tmp_path):
    done = run(compiled(package(300, 44)).write(tmp_path / "model.tflite"))
    assert done.returncode == 0 and "SOFTMAX  CPU" in done.stdout
    assert "300 parameter bytes on chip, 44 streamed; runtime version 14" in done.stdout
    assert done.stdout.splitlines()[-1] == "compiled: 1 Edge TPU subgraphs, 1 operators on the CPU"


def test_command_refuses_in_one_line(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"nothing")
    for arguments, code in (([tmp_path / "a.tflite"], 1), ([tmp_path / "b.tflite"], 1), ([], 2)):
        done = run(*arguments)
        assert done.returncode == code and not done.stdout
        assert done.stderr.startswith("error: edgetpu: ") and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def pairs(assets):
    """Every compiled file of the assets with its source."""
    found = sorted((assets / "data/edgetpu_pairs").glob("*_edgetpu.tflite"))
    assert found
    return [(path.with_name(path.name.replace("_edgetpu", "")), path) for path in found]


@pytest.mark.assets
def test_prediction_is_what_the_compiler_left_on_the_cpu(pairs):
    """By name: the same operators writing the same tensors."""
    for source, path in pairs:
        left = [(p.op.kind, *(t.name for t in p.op.outputs)) for p in predict(source) if not p.mapped]
        found = [(op.kind, *(t.name for t in op.outputs)) for op in read_compiled(path).cpu]
        assert collections.Counter(left) == collections.Counter(found), source.name


@pytest.mark.assets
def test_compiled_pairs_hold_the_parameters_of_what_is_mapped(pairs):
    """The compiler pads: never less than the source has, and the whole fits the file."""
    for source, path in pairs:
        found = read_compiled(path)
        total = found.on_chip_bytes + found.streamed_bytes
        assert parameter_bytes(predict(source)) <= total < path.stat().st_size, path.name
        assert len(found.packages) == 1 and 10 <= found.min_runtime_version <= 14


@pytest.mark.assets
def test_cut_pairs_are_refused(pairs, tmp_path):
    source, path = min(pairs, key=lambda pair: pair[1].stat().st_size)
    cut_everywhere(read_compiled, path.read_bytes(), tmp_path / path.name)
    cut_everywhere(predict, source.read_bytes(), tmp_path / source.name)
