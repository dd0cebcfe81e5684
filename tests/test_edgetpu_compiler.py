"""The closed compiler: its recorded output, a stand-in that prints such output, and what a variant records of it."""

import stat
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from edgetpu_models import compiled, convolutions, package

from edge.errors import UserError
from edge.inference import modelinfo
from edge.inference.fields import Fields
from stages.compile.edgetpu import compiler
from stages.compile.edgetpu.mapping import predict
from stages.compile.edgetpu.variant import build

# recorded by a user of compiler 15 for an int8 yolov3-tiny (`edgetpu_compiler -s`), published with that project
YOLO_15 = """Edge TPU Compiler version 15.0.340273435

Model compiled successfully in 577 ms.

Input model: /home/yolo/yolov3-tiny_int8.tflite
Input size: 8.58MiB
Output model: /home/yolo/yolov3-tiny_int8_edgetpu.tflite
Output size: 8.70MiB
On-chip memory used for caching model parameters: 3.00KiB
On-chip memory remaining for caching model parameters: 7.67MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 36
Operation log: /home/yolo/yolov3-tiny_int8_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 2
Number of operations that will run on CPU: 34

Operator                       Count      Status

MAX_POOL_2D                    6          More than one subgraph is not supported
QUANTIZE                       2          Operation is otherwise supported, but not mapped due to some unspecified limitation
QUANTIZE                       1          Mapped to Edge TPU
QUANTIZE                       1          More than one subgraph is not supported
CONV_2D                        1          Mapped to Edge TPU
CONV_2D                        12         More than one subgraph is not supported
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
LEAKY_RELU                     11         Operation not supported
CONCATENATION                  1          More than one subgraph is not supported
"""  # noqa: E501
# recorded by a user of compiler 16 for an EfficientDet-Lite: what it prints, less one paragraph, and its log's table
EFFICIENTDET_16 = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1524 ms.

Input model: efficientdet_coral_v2.tflite
Input size: 4.24MiB
Output model: efficientdet_coral_v2_edgetpu.tflite
Output size: 5.57MiB
On-chip memory used for caching model parameters: 4.21MiB
On-chip memory remaining for caching model parameters: 3.29MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 267
Operation log: efficientdet_coral_v2_edgetpu.log

Number of operations that will run on Edge TPU: 264
Number of operations that will run on CPU: 3

Operator                       Count      Status

ADD                            42         Mapped to Edge TPU
CUSTOM                         1          Operation is working on an unsupported data type
RESHAPE                        10         Mapped to Edge TPU
CONCATENATION                  2          Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        12         Mapped to Edge TPU
DEPTHWISE_CONV_2D              80         Mapped to Edge TPU
DEQUANTIZE                     2          Operation is working on an unsupported data type
CONV_2D                        102        Mapped to Edge TPU
QUANTIZE                       1          Mapped to Edge TPU
LOGISTIC                       1          Mapped to Edge TPU
MAX_POOL_2D                    14         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
# recorded in the issues of google-coral/edgetpu (439)
TOO_LARGE = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""
ONE_LAYER = """Edge TPU Compiler version 16.0.384591198
On-chip memory used for caching model parameters: 1.50KiB
Off-chip memory used for streaming uncached model parameters: 2.00MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 2

Operator                       Count      Status

CONV_2D                        1          Mapped to Edge TPU
CONV_2D                        1          More than one subgraph is not supported
"""


def test_log_of_compiler_15():
    log = compiler.parse_log(YOLO_15)
    assert (log.version, log.operations, log.mapped, log.subgraphs) == ("15.0.340273435", 36, 2, 1)
    assert (log.on_chip_bytes, log.streamed_bytes) == (3072, 0)
    assert sum(row["count"] for row in log.cpu) == 34
    assert {"op": "LEAKY_RELU", "count": 11, "status": "Operation not supported"} in log.cpu


def test_log_of_compiler_16():
    log = compiler.parse_log(EFFICIENTDET_16)
    assert (log.version, log.operations, log.mapped) == ("16.0.384591198", 267, 264)
    assert log.on_chip_bytes == round(4.21 * 2**20)
    assert [(row["op"], row["count"]) for row in log.cpu] == [("CUSTOM", 1), ("DEQUANTIZE", 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no compiler version"),
        (YOLO_15.replace("Total number", "Number"), "no number of operations"),
        (YOLO_15.replace("Edge TPU subgraphs", "subgraphs"), "no number of subgraphs"),
        (YOLO_15.replace("3.00KiB", "three"), "no on-chip memory"),
        (YOLO_15.replace("LEAKY_RELU                     11", "LEAKY_RELU"), "holds 25 of 36 operations"),
        (YOLO_15.split("Operator ")[0], "holds 0 of 36 operations"),
    ],
)
def test_other_output_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        compiler.parse_log(text)


@pytest.fixture
def source(tmp_path):
    return convolutions(2).write(tmp_path / "model.tflite")


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def no_compiler(tmp_path, monkeypatch):
    """A PATH without a real compiler."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def stand_in(folder, text: str, result=None, code: int = 0, log=None):
    """A program that takes the compiler's arguments, writes `result` where it would, and prints `text`."""
    path = folder / compiler.NAME
    path.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        "show, flag, out, source = sys.argv[1:]\n"
        "assert (show, flag) == ('--show_operations', '--out_dir')\n"
        "source = pathlib.Path(source)\n"
        f"shutil.copy(source, {str(log)!r}) if {log is not None} else None\n"
        f"result = {str(result)!r}\n"
        f"if {result is not None}:\n"
        "    shutil.copy(result, pathlib.Path(out) / f'{source.stem}_edgetpu.tflite')\n"
        f"print({text!r})\n"
        f"sys.exit({code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def model_json_takes(record: dict) -> bool:
    """Every field, and no other, is one that the deployed model's `edgetpu` has."""
    found = Fields(Path("model.json"), {"edgetpu": record}).optional("edgetpu", modelinfo._edgetpu)
    return asdict(found) == {"predicted_mapped": None, **record, "cpu": tuple(record["cpu"])}


def test_without_a_compiler_the_variant_is_predicted(source, output):
    record = build(source, output, None)
    assert model_json_takes(record)
    assert (record["how"], record["file"], record["compiler"]) == ("predicted", None, None)
    assert (record["ops"], record["mapped"], record["cpu"], record["subgraphs"]) == (2, 2, [], 1)
    assert record["parameter_bytes"] == 320 and record["on_chip_bytes"] is None
    assert not any(output.iterdir())


def test_predicted_reasons_are_recorded(tmp_path, output):
    net = convolutions(1)
    net.op("ABS", [net.graph.outputs[0]], [net.tensor([1, 8, 8, 4])])
    record = build(net.write(tmp_path / "abs.tflite"), output, None)
    why = {"op": "ABS", "index": 1, "why": "not a supported operation", "source": "documented"}
    assert record["cpu"] == [why] and record["mapped"] == 1


@pytest.mark.parametrize("setting", [None, "path"])
def test_with_a_compiler_the_variant_is_compiled(setting, source, output, tmp_path):
    made = compiled(package(1500, 2**21)).write(tmp_path / "made.tflite")
    program = stand_in(tmp_path / "bin" if setting is None else tmp_path, ONE_LAYER, made)
    record = build(source, output, setting and str(program))
    assert model_json_takes(record)
    assert (output / record["file"]).read_bytes() == made.read_bytes()
    assert record["file"] == "model_edgetpu.tflite" and [p.name for p in output.iterdir()] == [record["file"]]
    assert (record["how"], record["compiler"], record["min_runtime_version"]) == ("compiled", "16.0.384591198", 14)
    assert (record["on_chip_bytes"], record["streamed_bytes"]) == (1500, 2**21)
    assert (record["ops"], record["mapped"], record["predicted_mapped"]) == (2, 1, 2)
    why = {"op": "CONV_2D", "count": 1, "why": "More than one subgraph is not supported", "source": "compiler"}
    assert record["cpu"] == [why]


def test_the_compiler_gets_constants_inside_the_flatbuffer(output, tmp_path):
    source = convolutions(2).write(tmp_path / "model.tflite", outside=True)
    assert not any(p.mapped for p in predict(source))
    assert build(source, output, None)["mapped"] == 2
    made = compiled(package()).write(tmp_path / "made.tflite")
    stand_in(tmp_path / "bin", ONE_LAYER, made, log=tmp_path / "given.tflite")
    build(source, output, None)
    assert all(p.mapped for p in predict(tmp_path / "given.tflite"))


def test_failures_end_in_one_line(source, output, tmp_path):
    made = compiled(package()).write(tmp_path / "made.tflite")
    plain = convolutions().write(tmp_path / "plain.tflite")
    cases = [
        (TOO_LARGE, None, 1, "model.tflite was not compiled: Compilation failed: .* large activation tensors in model"),
        ("Invalid model: x\nModel not quantized", None, 1, "Model not quantized"),
        ("", None, 3, "exit code 3, nothing printed"),
        (ONE_LAYER, None, 0, "was not compiled"),
        ("something else", made, 0, "no compiler version in its output"),
        (ONE_LAYER, plain, 0, "not compiled for the Edge TPU"),
        (ONE_LAYER.replace("subgraphs: 1", "subgraphs: 2"), made, 0, "1 subgraphs, but the compiler says 2"),
    ]
    for text, result, code, words in cases:
        stand_in(tmp_path / "bin", text, result, code)
        with pytest.raises(UserError, match=words) as error:
            build(source, output, None)
        assert "\n" not in str(error.value) and not any(output.iterdir())


def test_a_wrong_setting_is_named(source, output, tmp_path):
    with pytest.raises(UserError, match=r"compile\.edgetpu_compiler: no_such is no program"):
        build(source, output, "no_such")
    program = tmp_path / "bin" / "broken"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    with pytest.raises(UserError, match="can't be started"):
        build(source, output, str(program))


def test_a_slow_compiler_is_stopped(source, output, tmp_path, monkeypatch):
    program = tmp_path / "slow"
    program.write_text(f"#!{sys.executable}\nimport time; time.sleep(60)\n")
    program.chmod(0o755)
    monkeypatch.setattr(compiler, "TIMEOUT", 0.3)
    with pytest.raises(UserError, match=r"not done with model\.tflite after 0\.3 s"):
        build(source, output, str(program))
