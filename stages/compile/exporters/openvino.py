"""OpenVINO IR (model.xml and model.bin) of the ONNX file, float or int8 in QDQ form."""

from edge.errors import UserError
from edge.inference.formats import INPUT_STEP
from stages.compile.build import Build
from stages.compile.exporters.onnx import source

NODES_ONLY = False


def write(build: Build) -> dict:
    """Float weights stay float32; the QDQ pairs of int8 become FakeQuantize operations, between which tensors hold
    steps. The bytes of a picture go in as they lie in memory: making float32 planes of them first took a fifth of the
    time of an int8 student on a Xeon."""
    try:
        import openvino
        from openvino.preprocess import PrePostProcessor

        from stages.compile.openvino_steps import in_steps
    except ModuleNotFoundError:
        raise UserError("format: openvino needs OpenVINO on this machine: pip install openvino") from None
    model = openvino.convert_model(str(source(build)))
    around = PrePostProcessor(model)
    for i, tensor in enumerate(model.inputs):
        place = around.input(i)
        if tensor.any_name not in build.states:
            place.tensor().set_element_type(openvino.Type.u8)
            place.preprocess().convert_element_type(openvino.Type.f32).scale(1 / INPUT_STEP)
        _nhwc(place, tensor)
    for i, tensor in enumerate(model.outputs):
        _nhwc(around.output(i), tensor)
    model = around.build()
    in_steps(model)
    openvino.save_model(model, str(build.folder / "model.xml"), compress_to_fp16=False)
    return {}


def _nhwc(place, tensor) -> None:
    """Puts the channels of an input or output last outside of the network, where it has some."""
    if len(tensor.partial_shape) == 4:
        place.model().set_layout("NCHW")
        place.tensor().set_layout("NHWC")
