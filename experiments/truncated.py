"""A TFLite file cut after each of its operators: the differences of their times are the times of the operators.

The runtime's own profiler is not in its Python package; its C interface differs from release to release.
"""

from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from stages.compile.edgetpu.graph import IDENTIFIER, write_inline


def cut(path: Path, folder: Path) -> list[Path]:
    """Writes the file with none of its operators, with the first, the first two, and so on to all of them.

    What an operator gives and none of those that are left takes becomes an output, so that no runtime drops it. Without
    operators the outputs are the inputs. UserError where `path` is no .tflite file.
    """
    whole = folder / "whole.tflite"
    write_inline(path, whole)
    content = whole.read_bytes()
    count = len(schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0].operators)
    return [write(first(content, kept), folder / f"{kept}.tflite") for kept in range(count + 1)]


def first(content: bytes, kept: int) -> schema.ModelT:
    """The model of a .tflite file with its first `kept` operators."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:kept]
    taken = {int(i) for op in graph.operators for i in op.inputs}
    made = [int(i) for op in graph.operators for i in op.outputs]
    graph.outputs = [i for i in made if i not in taken] or list(graph.inputs)
    model.signatureDefs = None  # they name the outputs that were
    return model


def write(model: schema.ModelT, path: Path) -> Path:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    path.write_bytes(builder.Output())
    return path
