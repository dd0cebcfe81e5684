"""A stand-in for TensorRT, for machines without a GPU: a `trtexec` that packs the ONNX file, a `libcuda.so.1` whose GPU
is malloc, and a module `tensorrt` with the real names that runs what was packed with onnxruntime."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION, GPU = "10.3.0", "Stand-in GPU"
COMPILER = shutil.which("cc")

CUDA = r"""
#include <stdlib.h>
#include <string.h>
typedef unsigned long long ptr;
static __thread void *current;  /* of each thread its own, as in the driver */
static size_t used;
#define NEEDS_CONTEXT if (!current) return 201
int cuInit(unsigned flags) { return getenv("FAKE_NO_GPU") ? 100 : flags ? 1 : 0; }
int cuDeviceGet(int *device, int number) { *device = 7; return number ? 101 : 0; }
int cuDeviceGetName(char *text, int size, int device) {
    if (device != 7) return 101;
    char *name = getenv("FAKE_GPU");
    strncpy(text, name ? name : "Stand-in GPU", size);
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = malloc(1); return device == 7 ? 0 : 101; }
int cuCtxSetCurrent(void *context) { current = context; return 0; }
int cuMemAlloc_v2(ptr *address, size_t size) {
    NEEDS_CONTEXT;
    char *most = getenv("FAKE_GPU_BYTES");
    if (most && (used += size) > strtoul(most, 0, 10)) return 2;
    *address = (ptr)malloc(size);
    return 0;
}
int cuMemFree_v2(ptr address) { free((void *)address); return 0; }
int cuMemcpyHtoDAsync_v2(ptr to, const void *from, size_t size, void *stream) {
    NEEDS_CONTEXT;
    memcpy((void *)to, from, size);
    return stream ? 0 : 400;
}
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t size, void *stream) {
    NEEDS_CONTEXT;
    memcpy(to, (void *)from, size);
    return stream ? 0 : 400;
}
int cuStreamCreate(void **stream, unsigned flags) { NEEDS_CONTEXT; *stream = malloc(1); return flags; }
int cuStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cuGetErrorString(int code, const char **text) {
    *text = code == 100 ? "no CUDA-capable device is detected" : code == 201 ? "invalid device context" : 0;
    return *text ? 0 : 1;
}
"""

TENSORRT = '''
"""The names of TensorRT 10's Python API that edge uses."""
import ctypes, enum, json, os
import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT", "VERSION")

class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
    def __init__(self):
        self.made = True

class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)

class DataType(enum.Enum):
    FLOAT, HALF, INT8 = range(3)

def nptype(kind):
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT8: np.int8}[kind]

class Runtime:
    def __init__(self, logger):
        assert isinstance(logger, ILogger) and logger.made
        self.logger = logger
        logger.log(ILogger.Severity.WARNING, "a warning is no reason")

    def deserialize_cuda_engine(self, data):
        try:
            head, model = data.split(b"\\n", 1)
            head = json.loads(head)
        except ValueError:
            self.logger.log(ILogger.Severity.ERROR, "Serialization assertion failed:\\n magic tag does not match")
            return None
        if head["version"] != __version__:
            self.logger.log(ILogger.Severity.ERROR, "The engine plan file is not compatible with this version of "
                f"TensorRT, expecting library version {__version__} got {head['version']}, please rebuild.")
            return None
        return Engine(model)

class Engine:
    def __init__(self, model):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given, made = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = [(t, TensorIOMode.INPUT) for t in given] + [(t, TensorIOMode.OUTPUT) for t in made]
        self.num_io_tensors = len(self.tensors)

    def named(self, name):
        return next(pair for pair in self.tensors if pair[0].name == name)

    def get_tensor_name(self, i):
        return self.tensors[i][0].name

    def get_tensor_mode(self, name):
        return self.named(name)[1]

    def get_tensor_shape(self, name):
        return [side if isinstance(side, int) else -1 for side in self.named(name)[0].shape]

    def get_tensor_dtype(self, name):
        return DataType.FLOAT

    def create_execution_context(self):
        return None if os.environ.get("FAKE_NO_CONTEXT") else Context(self)

class Context:
    def __init__(self, engine):
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name, address):
        assert isinstance(address, int) and address
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle):
        assert isinstance(stream_handle, int) and stream_handle
        if os.environ.get("FAKE_FAILS"):
            return False
        feeds = {t.name: self.view(t.name) for t, mode in self.engine.tensors if mode is TensorIOMode.INPUT}
        names = [t.name for t, mode in self.engine.tensors if mode is TensorIOMode.OUTPUT]
        for name, value in zip(names, self.engine.session.run(names, feeds)):
            self.view(name)[...] = value
        return True

    def view(self, name):
        shape = tuple(self.engine.get_tensor_shape(name))
        kind = ctypes.c_float * int(np.prod(shape))
        return np.frombuffer(kind.from_address(self.addresses[name]), np.float32).reshape(shape)
'''.replace("VERSION", VERSION)

TRTEXEC = """\
#!@PYTHON@
import json, os, signal, sys
version = os.environ.get("FAKE_TRTEXEC_VERSION", "@VERSION@")
major, minor, patch = map(int, version.split("."))
number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
skip = "--skipInference" if (major, minor) >= (8, 6) else "--buildOnly"
print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec", *sys.argv[1:])
if "--help" in sys.argv:
    sys.exit(0)
with open(@LOG@, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
options = dict(word.partition("=")[::2] for word in sys.argv[1:])
unknown = set(options) - {"--onnx", "--saveEngine", "--fp16", "--int8", "--noTF32", skip}
how = os.environ.get("FAKE_TRTEXEC", "")
if unknown or how == "fails":
    print("[07/30/2024-15:30:36] [W] [TRT] Skipping tactic 0 due to insufficient memory on requested size of 1")
    print(f"[07/30/2024-15:30:36] [E] [TRT] no importer registered for op: Fancy {unknown or ''}")
    print("[07/30/2024-15:30:36] [E] Engine could not be created from network")
    sys.exit(1)
if how == "memory":
    print("[07/30/2024-15:30:36] [E] [TRT] 1: [defaultAllocator.cpp::allocate::19] Cuda Runtime (out of memory)")
    sys.exit(1)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "nothing":
    sys.exit(0)
head = json.dumps({"version": version}).encode()
with open(options["--onnx"], "rb") as source, open(options["--saveEngine"], "wb") as target:
    target.write(head + b"\\n" + source.read())
"""


class StandIn:
    """The three parts in a folder, `python` that starts an interpreter which finds them, and what trtexec was asked."""

    def __init__(self, folder: Path):
        self.folder, self.log, self.cache = folder, folder / "trtexec.log", folder / "cache"
        for name in ("bin", "lib", f"site/tensorrt-{VERSION}.dist-info", "site/tensorrt"):
            (folder / name).mkdir(parents=True)
        self.cuda = folder / "lib/libcuda.so.1"
        (folder / "cuda.c").write_text(CUDA)
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", self.cuda, folder / "cuda.c"], check=True)
        (folder / "site/tensorrt/__init__.py").write_text(TENSORRT)
        metadata = f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {VERSION}\n"
        (folder / f"site/tensorrt-{VERSION}.dist-info/METADATA").write_text(metadata)
        self.trtexec = folder / "bin/trtexec"
        places = {"@PYTHON@": sys.executable, "@VERSION@": VERSION, "@LOG@": repr(str(self.log))}
        text = TRTEXEC
        for place, value in places.items():
            text = text.replace(place, value)
        self.trtexec.write_text(text)
        self.trtexec.chmod(0o755)
        self.python = folder / "python"
        self.set()

    def set(self, **environment: str) -> None:
        """Has the device's interpreter start with these variables."""
        paths = {
            "LD_LIBRARY_PATH": self.folder / "lib",
            "PYTHONPATH": self.folder / "site",
            "XDG_CACHE_HOME": self.cache,
        }
        lines = [f"export {key}='{value}'" for key, value in {**paths, **environment}.items()]
        start = [f'export PATH="{self.folder}/bin:$PATH"', f'exec {sys.executable} "$@"']
        self.python.write_text("\n".join(["#!/bin/sh", *lines, *start]) + "\n")
        self.python.chmod(0o755)

    @property
    def builds(self) -> list[list[str]]:
        """The arguments of each build so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def engines(self) -> list[Path]:
        return sorted(self.cache.glob("edge-vision/built/*"))

    def here(self, monkeypatch) -> None:
        """Has this process find them."""
        from edge.inference import cuda

        monkeypatch.setattr(cuda, "LIBRARY", str(self.cuda))
        monkeypatch.syspath_prepend(str(self.folder / "site"))
        monkeypatch.setenv("PATH", f"{self.folder}/bin:{os.environ['PATH']}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
