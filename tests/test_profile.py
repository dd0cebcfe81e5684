"""Where the milliseconds of an int8 file go: `experiments profile`."""

import json
from pathlib import Path

import edgetpu_models
import numpy as np
import pytest
import tiny_models
from ai_edge_litert.interpreter import Interpreter
from exporting import random_student

from edge.errors import UserError
from experiments import gemm, interleave, layers, profile, truncated
from experiments.__main__ import main
from stages.common import atomic
from stages.compile.tflite import open_interpreter, operations
from stages.report.formatting import NONE


def set_noise(interpreter) -> None:
    entry = interpreter.get_input_details()[0]
    values = np.random.default_rng(0).integers(-128, 128, entry["shape"])
    interpreter.set_tensor(entry["index"], values.astype(np.int8))


def run(path: Path) -> dict[int, np.ndarray]:
    """The outputs of an int8 file for noise, by the number of their tensor."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    set_noise(interpreter)
    interpreter.invoke()
    return {one["index"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}


def everything(path: Path) -> dict[int, np.ndarray]:
    """Every tensor that the operators of an int8 file write, from an interpreter that keeps them all."""
    interpreter = open_interpreter(path)
    set_noise(interpreter)
    interpreter.invoke()
    return {int(i): interpreter.get_tensor(int(i)) for op in operations(interpreter) for i in op["outputs"]}


@pytest.mark.slow
def test_the_rows_are_the_operators_and_their_macs_those_of_the_node_list(tmp_path):
    student = random_student()
    found = profile.measure(student.device.info, 3, tmp_path)
    wanted = [op["op_name"] for op in operations(open_interpreter(student.int8_path))]
    assert [row["operator"].split()[0] for row in found["rows"]] == wanted and len(wanted) > 50
    assert sum(row["macs"] for row in found["rows"]) == student.folded.cost(64, 64)["macs"]
    total, whole = (ms for _, ms in layers.totals(found).values())
    assert whole == found["whole_ms"] > 0 and total == pytest.approx(whole, rel=0.5)
    assert found["peak_gmacs"] > found["rows"][0]["macs"] / found["rows"][0]["ms"] / 1e6 > 0
    shown = layers.tables(found).splitlines()
    assert len([line for line in shown if line.startswith(tuple(f"| {i} |" for i in range(len(wanted))))]) == len(
        wanted
    )
    assert sum(int(line.split("|")[2]) for line in shown[shown.index("") + 3 :]) == len(wanted)


@pytest.mark.slow
def test_each_piece_computes_what_the_whole_file_does(tmp_path):
    """With XNNPACK the pieces give the tensors of the file on the plain kernels, but for a step in a few values."""
    student = random_student()
    pieces, tensors = truncated.cut(student.int8_path, tmp_path), everything(student.int8_path)
    ops = operations(open_interpreter(student.int8_path))
    assert len(pieces) == len(ops) + 1
    names = {t["name"]: t["index"] for t in open_interpreter(student.int8_path).get_tensor_details()}
    for kept, piece in enumerate(pieces):
        interpreter = open_interpreter(piece)
        assert [op["op_name"] for op in operations(interpreter)] == [op["op_name"] for op in ops[:kept]]
        made, taken = ({int(i) for op in ops[:kept] for i in op[side]} for side in ("outputs", "inputs"))
        details = {one["index"]: names[one["name"]] for one in interpreter.get_output_details()}
        assert not kept or set(details.values()) == made - taken
    whole = run(student.int8_path)
    assert all((value == whole[i]).all() for i, value in run(pieces[-1]).items())
    first = run(pieces[1])
    assert all(np.abs(value.astype(int) - tensors[i]).max() <= 1 for i, value in first.items())


def test_a_dense_product_is_one_operator_that_multiplies(tmp_path):
    shape = (4, 16, 24)
    (op,) = profile.read(gemm.product(shape, tmp_path / "product.tflite"))
    assert profile.macs(op) == gemm.macs(shape) == 16 * 16 * 24
    assert (profile.kind(op), profile.shape(op)) == ("CONV_2D 1 x 1", "4 x 4 x 16 to 4 x 4 x 24")
    weights = op.inputs[1].values().reshape(24, 16).astype(int)
    x = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 16))
    (found,) = run(tmp_path / "product.tflite").values()
    wanted = (x @ weights.T) * (0.02 * 0.01 / 0.5)
    np.testing.assert_allclose(found, np.clip(wanted, -128, 127), atol=0.51)
    assert len(np.unique(found)) > 20


@pytest.mark.parametrize(
    ("name", "inputs", "output", "wanted"),
    [
        ("CONV_2D", [(1, 8, 8, 4), (6, 3, 5, 4)], (1, 4, 4, 6), 4 * 4 * 6 * 3 * 5 * 4),
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 5, 3, 8)], (1, 8, 8, 8), 8 * 8 * 8 * 5 * 3),
        ("FULLY_CONNECTED", [(1, 10), (7, 10)], (1, 7), 70),
        ("ADD", [(1, 8, 8, 4), (1, 8, 8, 4)], (1, 8, 8, 4), 0),
    ],
)
def test_macs_of_an_operator(tmp_path, name, inputs, output, wanted):
    net = edgetpu_models.Net()
    net.op(name, [net.tensor(shape) for shape in inputs], [net.tensor(output)])
    (op,) = profile.read(net.write(tmp_path / "net.tflite"))
    assert profile.macs(op) == wanted


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/models").symlink_to(tiny_models.build())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interleave.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(gemm, "SHAPES", ((4, 16, 24),))


def test_the_command_prints_the_tables_and_writes_the_record(project, capsys):
    main(["profile", "int8", "--rounds", "5", "--output", "here/it.json"])
    found = json.loads(Path("here/it.json").read_text())
    assert [row["macs"] for row in found["rows"]] == [27 * 7 * 7] and found["rounds"] == 5
    assert found["variant"] == "tiny-int8" and found["code"] is None, "here is no repository"
    shown = capsys.readouterr().out
    assert "| 0 | CONV_2D 3 x 3 / 2 | 16 x 16 x 3 to 7 x 7 x 1 | 1.32 k |" in shown
    assert f"Peak: {found['peak_gmacs']:.0f} GMAC/s" in shown and "5 rounds" in shown


def test_a_published_record_is_rendered_with_its_code(tmp_path):
    rows = [
        {"operator": "CONV_2D 1 x 1", "shape": "a", "macs": 3_000_000, "ms": 0.02},
        {"operator": "ADD", "shape": "b", "macs": 0, "ms": -0.001},
        {"operator": "CONV_2D 1 x 1", "shape": "c", "macs": 1_000_000, "ms": 0.02},
    ]
    found = {"rows": rows, "call_ms": 0.001, "whole_ms": 0.05, "standard_error_ms": 0.0005, "peak_gmacs": 500.0}
    found |= {"rounds": 9, "machine": {"cpu": "A", "int8": "vnni"}, "code": None}
    found["runtime"] = {"name": "litert", "version": "2", "delegate": "XNNPACK"}
    with pytest.raises(UserError, match=r"profile\.json: no measurement"):
        layers.markdown(tmp_path)
    atomic.write_json(tmp_path / "profile.json", found)
    lines = layers.markdown(tmp_path).splitlines()
    assert "| 0 | CONV_2D 1 x 1 | a | 3.00 M | 0.0200 | 40.0% | 150 | 30% |" in lines
    assert f"| 1 | ADD | b | {NONE} | -0.0010 | -2.0% | {NONE} | {NONE} |" in lines
    assert f"| {NONE} | sum | {NONE} | 4.00 M | 0.0400 | 80.0% | 100 | 20% |" in lines
    assert f"| {NONE} | whole file | {NONE} | 4.00 M | 0.0500 | 100.0% | 80.0 | 16% |" in lines
    assert "| CONV_2D 1 x 1 | 2 | 4.00 M | 0.0400 | 80.0% | 100 | 20% |" in lines
    assert lines[-1] == "- Code not recorded." and "- A (vnni), litert 2 (XNNPACK), one thread, 9 rounds." in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["float"], "float: is no int8 TFLite file"),
        (["onnx"], "onnx: is no int8 TFLite file"),
        (["../models/int8/model.tflite"], "model.tflite"),
        (["int8", "--rounds", "2"], "--rounds 2: must be from 3 to 100000"),
        (["int8", "--rounds", "1000000"], "--rounds 1000000: must be from 3 to 100000"),
    ],
)
def test_what_can_not_be_profiled_is_one_line(project, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        main(["profile", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code and said in error and error.startswith("error: profile: ") and error.count("\n") == 1


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"none")
    with pytest.raises(UserError, match=r"not a \.tflite file"):
        truncated.cut(tmp_path / "bad.tflite", tmp_path)
