"""OpenVINO IR (model.xml and model.bin) of the ONNX file, float or int8 in QDQ form."""

from edge.errors import UserError
from stages.compile.build import Build
from stages.compile.exporters.onnx import source

NODES_ONLY = False


def write(build: Build) -> dict:
    """Float weights stay float32; the QDQ pairs of int8 become FakeQuantize operations."""
    try:
        import openvino
    except ModuleNotFoundError:
        raise UserError("format: openvino needs OpenVINO on this machine: pip install openvino") from None
    model = openvino.convert_model(str(source(build)))
    openvino.save_model(model, str(build.folder / "model.xml"), compress_to_fp16=False)
    return {}
