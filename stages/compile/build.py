"""What every exporter reads of one variant: the detector's network in float, ONNX and int8, with cost and outputs."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from edge.errors import UserError
from edge.inference.formats import Format
from stages.compile import onnx_export
from stages.compile.embedding import with_embedding
from stages.detectors.base import Detector, Export
from stages.graph import streaming
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated, how
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor

SCHEME = "int8 weights per channel, 8-bit activations per tensor"


@dataclass
class Build:
    """A detector, the format and precision that it is exported in, and where the file goes.

    samples: uint8 [N, H, W, C], half with synthetic defects, for post-training calibration. work: a scratch folder.
    embedding: channels of a second output (0: none), of kinds that have one to give.
    """

    detector: Detector
    name: str
    format: str
    precision: str
    samples: np.ndarray
    folder: Path
    work: Path
    edgetpu_compiler: str | None = None
    embedding: int = 0
    renamed: dict[str, str] = field(default_factory=dict)  # the file's names of the tensors that nodes write

    @cached_property
    def export(self) -> Export:
        """What the detector exports, with an embedding where one is wanted and the kind has one."""
        export = self._alone()
        found = with_embedding(self.detector, export, self.samples, self.embedding) if self.embedding else export
        if found is None:
            print(f"{self.name}: exported without an embedding: the kind {self.detector.kind} has none", flush=True)
        return found or export

    def _alone(self) -> Export:
        """What the detector exports by itself; for an int8 file calibrated here where it is not yet."""
        export = self.detector.export()
        if self.precision != "int8" or not isinstance(export.module, Network):
            return export
        if export.quantized:  # whose biases may be corrected
            return replace(export, module=export.quantized.network)
        quantized = calibrated(fold(export.module), to_tensor(self.samples))  # a copy: the detector's may be its own
        return replace(export, module=quantized.network, quantized=quantized, ranges=how(len(self.samples)))

    @cached_property
    def network(self) -> Network:
        """The network of nodes with batch norm folded; UserError for any other torch module."""
        self.check(nodes_only=True)
        return self.export.module

    @cached_property
    def float_onnx(self) -> Path:
        """The float network as an ONNX file with fixed shapes, from which every other format is converted."""
        path = self.work / "model.onnx"
        _, *size, channels = self.samples.shape
        channels = self.network.channels if self.states else channels
        onnx_export.export(self.export.module, tuple(size), path, list(self.export.outputs), channels)
        return path

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """The content of `float_onnx`."""
        return onnx.load(self.float_onnx)

    @cached_property
    def quantized(self) -> QuantNetwork | None:
        """The network with fake quantization; None for a float file."""
        if self.precision != "int8":
            return None
        self.check(nodes_only=True)
        return self.export.quantized

    def check(self, nodes_only: bool) -> None:
        """UserError where the detector is no network of nodes but format or precision need one."""
        if (nodes_only or self.precision == "int8") and not isinstance(self.export.module, Network):
            raise UserError(
                f"variants.{self.name}: a {self.detector.kind} is no network of nodes and can't become {self.format} "
                f"in {self.precision}; set format: onnx or openvino, and precision: float32"
            )

    def outputs(self, integer_io: bool) -> list[dict]:
        """The outputs as model.json lists them; `integer_io`: a quantized file returns int8 on the network's grids."""
        found = []
        for value in self.graph.graph.output:
            if value.name not in self.export.outputs:  # of a state
                continue
            sides = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
            channels, height, width = (1,) * (3 - len(sides)) + tuple(sides)
            shape = {"height": height, "width": width, "channels": channels}
            kind = self._grid(value.name, integer_io)
            found.append({"name": value.name, "meaning": self.export.outputs[value.name], **shape, **kind})
        return found

    @property
    def states(self) -> dict[str, str]:
        """The states of the network, and of each the node that gives its next value."""
        return self.network.states if isinstance(self.export.module, Network) else {}

    @property
    def warmup(self) -> int:
        """How often a device gives the first frame of a clip once more: that clips begin alike in training."""
        return streaming.warmup(self.network, self.samples.shape[3]) if self.states else 0

    def state(self, form: Format) -> list[dict]:
        """The states as model.json lists them, of a file of that format."""
        found = []
        for name, following in self.states.items():
            shapes = {value.name: value.type.tensor_type.shape.dim for value in self.graph.graph.input}
            one, channels, *sides = [d.dim_value for d in shapes[name]]
            shape = [one, *sides, channels] if form.layout == "nhwc" else [one, channels, *sides]
            names = {key: self.renamed.get(node, node) for key, node in (("input", name), ("output", following))}
            found.append({**names, "shape": shape, **self._grid(following, form.integer_io)})
        return found

    def _grid(self, node: str, integer_io: bool) -> dict:
        """Type and grid of an input or output of the file."""
        if not integer_io or self.quantized is None:
            return {"dtype": "float32", "scale": 1.0, "zero_point": 0}
        scale, zero = self.quantized.quantizer(node).scale_zero
        return {"dtype": "int8", "scale": scale, "zero_point": zero}

    def quantization(self) -> dict | None:
        """How the file is quantized and where the int8 ranges come from, for model.json; None for a float file."""
        if self.quantized is None:
            return None
        scale, zero = self.quantized.quantizer(self.network.heads[0]).scale_zero
        return {"scheme": SCHEME, "ranges": self.export.ranges, "output": {"scale": scale, "zero_point": zero}}

    def cost(self) -> dict[str, int]:
        """Parameters and multiply-accumulates of one inference, which is one tile."""
        if not isinstance(self.export.module, Network):
            return onnx_export.cost(self.graph)
        return self.network.cost(*self.samples.shape[1:3])
