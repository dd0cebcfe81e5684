"""OpenVINO on a device: int8 files without overflow on every processor, and interrupts after a model is freed."""

import subprocess
import sys

import numpy as np
import openvino
import pytest
from conftest import ROOT
from openvino import opset13 as op

from edge.inference.runtimes import openvino as runtime

CHANNELS = 32
PICTURE = (1, CHANNELS, 5, 7)
FREED = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
import openvino
from edge.inference.runtimes.openvino import OpenVINO

box = [OpenVINO(openvino, Path(sys.argv[1]), 1)]
freeing = threading.Thread(target=box.clear)
freeing.start()
freeing.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def file(tmp_path):
    """A 1 x 1 convolution of high steps by the highest weights: any two products add up to more than 16 bits hold."""
    weights = np.random.default_rng(0).integers(100, 128, (4, CHANNELS, 1, 1)).astype(np.int8)
    image = op.parameter(PICTURE, openvino.Type.f32, name="image")
    fake = op.fake_quantize(image, *[op.constant(np.float32(bound)) for bound in (0, 255, 0, 255)], 256)
    scaled = op.multiply(op.convert(op.constant(weights), openvino.Type.f32), op.constant(np.float32(0.01)))
    made = op.convolution(fake, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    openvino.save_model(openvino.Model([made], [image]), tmp_path / "model.xml", compress_to_fp16=False)
    return tmp_path / "model.xml", weights[:, :, 0, 0]


@pytest.mark.parametrize("may_overflow", [True, False])
def test_int8_is_exact_where_its_kernels_overflow(file, may_overflow, monkeypatch):
    """Without VNNI int8 kernels would say less; with it only the way that is taken shows."""
    if not may_overflow and runtime.int8_may_overflow():
        pytest.skip("the int8 kernels of this processor overflow")
    monkeypatch.setattr(runtime, "int8_may_overflow", lambda: may_overflow)
    path, weights = file
    model = runtime.OpenVINO(openvino, path, 1)
    assert model.details["delegate"] == ("CPU, int8 in float32" if may_overflow else "CPU")
    image = np.random.default_rng(1).integers(200, 256, PICTURE).astype(np.float32)
    (found,) = model.invoke([image], [0])
    wanted = np.einsum("oc,bchw->bohw", weights.astype(np.int64), image.astype(np.int64)) * 0.01
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_model_freed_by_another_thread_leaves_interrupts_alone(file):
    command = [sys.executable, "-c", FREED, str(file[0])]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, "interrupted\n"), run.stderr
