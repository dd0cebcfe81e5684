"""ONNX (float, or int8 in QDQ form) to OpenVINO IR: model.xml and model.bin."""

from pathlib import Path

from edge.errors import UserError


def convert(onnx_path: Path, path: Path) -> None:
    """Writes the IR with float32 weights kept as they are; int8 grids of a QDQ file become FakeQuantize operations."""
    try:
        import openvino
    except ModuleNotFoundError:
        raise UserError("format: openvino needs OpenVINO on this machine: pip install openvino") from None
    openvino.save_model(openvino.convert_model(str(onnx_path)), str(path), compress_to_fp16=False)
