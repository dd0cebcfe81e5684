"""Energy sources: what they read out of recorded output, and what becomes of it over long windows."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
from conftest import ROOT

from edge.tiling import Tiles
from hardware_runners.runner import energy, result, transports
from hardware_runners.runner.devices import Device, Energy
from hardware_runners.runner.energy import estimate, hwmon, ina2xx, jetson, meter, pmic, rapl
from hardware_runners.runner.remote import power
from stages.report import summary

RECORDED = Path(__file__).parent / "recorded"
RANGE = 262143328850  # µJ: max_energy_range_uj of an Intel package


def tree(root: Path, files: dict) -> None:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages with a part each, and psys beside them, as /sys/class/powercap lists them."""
    monkeypatch.setattr(rapl, "ROOT", tmp_path)
    for zone, name, value in (
        ("intel-rapl:0", "package-0", 65997277274),
        ("intel-rapl:0:0", "core", 48265700414),
        ("intel-rapl:1", "package-1", 52649883221),
        ("intel-rapl:2", "psys", 117870082040),
    ):
        tree(tmp_path / zone, {"name": name, "energy_uj": value, "max_energy_range_uj": RANGE})
    return tmp_path


def test_rapl_adds_packages_and_survives_the_wrap(powercap):
    source = rapl.open({})
    assert rapl.found() and source.counter and source.read() == 0
    tree(powercap, {"intel-rapl:0/energy_uj": 65997277274 + 2_000_000, "intel-rapl:0:0/energy_uj": 0})
    tree(powercap, {"intel-rapl:2/energy_uj": 0})
    assert source.read() == pytest.approx(2)
    tree(powercap, {"intel-rapl:1/energy_uj": 1_000_000})
    assert source.read() == pytest.approx(2 + (RANGE - 52649883221 + 1_000_000) / 1e6)


def test_rapl_that_is_absent_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(rapl, "ROOT", tmp_path / "none")
    assert not rapl.found()
    with pytest.raises(OSError, match="no RAPL package"):
        rapl.open({})


@pytest.fixture
def hwmons(tmp_path, monkeypatch):
    monkeypatch.setattr(hwmon, "ROOT", tmp_path)
    tree(tmp_path / "hwmon0", {"name": "cpu_thermal", "temp1_input": 47000})
    return tmp_path


def test_jetson_finds_its_rail_by_label(hwmons):
    """The order of an Orin module, then another: only the label counts."""
    for order in (("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), ("VDD_SOC", "VDD_IN", "VDD_CPU_GPU_CV")):
        for channel, label in enumerate(order, 1):
            volts, milliamperes = {"VDD_IN": (4968, 1016), "VDD_CPU_GPU_CV": (4968, 128)}.get(label, (4960, 328))
            files = {"label": label, "input": volts}
            tree(hwmons / "hwmon3", {f"in{channel}_{key}": value for key, value in files.items()})
            tree(hwmons / "hwmon3", {"name": "ina3221", f"curr{channel}_input": milliamperes})
        source = jetson.open({})
        assert source.scope == "module" and source.read() == pytest.approx(4.968 * 1.016)
        assert jetson.open({"label": "VDD_SOC"}).read() == pytest.approx(4.960 * 0.328)
    with pytest.raises(OSError, match="no INA3221 rail CAM; there are: VDD_SOC, VDD_IN, VDD_CPU_GPU_CV"):
        jetson.open({"label": "CAM"})


def test_ina226_takes_its_own_power_and_ina219_volts_times_amperes(hwmons):
    assert not ina2xx.found()
    tree(hwmons / "hwmon4", {"name": "ina226", "in1_input": 5091, "curr1_input": 742, "power1_input": 3775000})
    assert ina2xx.open({}).read() == pytest.approx(3.775)
    tree(hwmons / "hwmon5", {"name": "ina219", "in1_input": 5091, "curr1_input": 742})
    with pytest.raises(OSError, match="2 INA219/INA226"):
        ina2xx.open({})
    assert ina2xx.open({"label": "hwmon5"}).read() == pytest.approx(5.091 * 0.742)


def test_pmic_reads_both_formats(tmp_path, monkeypatch):
    """pmic_indexed is what a Raspberry Pi 5 printed; pmic_plain is the same reading written in the shorter format."""
    expected = 0.09466522 * 3.629252 + 0.08197812 * 3.316529 + 0.1502932 * 1.798777 + 0.00390372 * 1.101464
    expected += 0.2029934 * 1.104028 + 0.3054661 * 0.798534 + 1.11625 * 0.7494498 + 0.00018315 * 3.316846
    expected += 0.00274725 * 0.7979479 + 0.0166056 * 5.10138
    for name in ("pmic_indexed", "pmic_plain"):
        assert pmic.power((RECORDED / f"{name}.txt").read_text()) == pytest.approx(expected)
    with pytest.raises(OSError, match="no rail"):
        pmic.power("VCHI initialization failed\n")
    command = tmp_path / "vcgencmd"
    command.write_text(f"#!/bin/sh\n[ $1 = pmic_read_adc ] && cat {RECORDED}/pmic_indexed.txt\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert pmic.found() and pmic.open({}).read() == pytest.approx(expected)


WINDOWS = {"idle": [10.0, 20.0], "busy": [21.0, 32.0], "active": [22.0, 32.0], "n": 1000}


def watts(t: float) -> float:
    """2 W idle, 5 W while busy."""
    return 5.0 if 21.0 <= t < 32.0 else 2.0


def test_figure_is_gross_and_net_of_idling():
    samples = [(t / 100, watts(t / 100)) for t in range(800, 3400)]
    joules = [energy.integrate(samples, *WINDOWS[key]) for key in ("active", "idle")]
    assert joules == pytest.approx([50, 20], rel=1e-3)
    found = energy.figure("jetson", "module", WINDOWS, *joules, samples=1000)
    assert found["gross_mj"] == pytest.approx(50, rel=1e-3) and found["net_mj"] == pytest.approx(30, rel=2e-3)
    assert found["value_mj"] == found["net_mj"] and found["method"] == "measured"
    assert (found["n"], found["window_s"], found["idle_s"], found["rate_hz"]) == (1000, 10, 10, 100)
    with pytest.raises(energy.NoEnergy, match="do not cover"):
        energy.integrate(samples[:1500], *WINDOWS["active"])


def test_counters_are_read_at_the_ends_of_the_window():
    assert energy.difference([(0.0, 0.0), (1.0, 4.0), (3.0, 8.0)], 0.5, 2.0) == pytest.approx(4)


def test_fnb58_lines(tmp_path):
    columns = {"time": "timestamp", "voltage": "voltage_V", "current": "current_A"}
    samples = meter.parse((RECORDED / "fnb58.txt").read_text().splitlines(), columns)
    assert samples[1] == (1774531584.039, pytest.approx(5.02325 * 0.05801)) and len(samples) == 3
    samples = meter.parse(["t;P", "0,5", "", "0.1;1.25 W", "0.2;1.5 W"], {"time": 0, "power": "p"})
    assert samples == [(0.1, 1.25), (0.2, 1.5)]
    with pytest.raises(energy.NoEnergy, match="no two lines"):
        meter.parse(["nothing", "here"], columns)


@pytest.mark.parametrize(("clock", "late"), [("epoch", 0.0), ("epoch", 1.7), ("own", -8.5), ("own", 1e6)])
def test_the_load_step_aligns_the_clocks(tmp_path, clock, late):
    """A meter whose clock is `late` seconds ahead, 50 samples a second, with noise."""
    file = tmp_path / "meter.csv"
    lines = [f"{t / 50 + late:.3f},{watts(t / 50) + 0.2 * ((t * 7919) % 11 / 10 - 0.5):.4f}" for t in range(450, 1700)]
    file.write_text("time,power\n" + "\n".join(lines))
    recorder = meter.Recorder({"source": "meter", "file": str(file), "clock": clock, "scope": "wall"})
    found = recorder.energy(WINDOWS, offset=0.0)
    assert found["reason"] is None and found["clock_shift_s"] == pytest.approx(late, abs=0.06)
    assert found["net_mj"] == pytest.approx(30, rel=0.02) and found["gross_mj"] == pytest.approx(50, rel=0.02)
    assert (found["source"], found["scope"]) == ("meter", "wall")


def test_a_meter_without_a_step_gives_no_figure(tmp_path):
    file = tmp_path / "meter.csv"
    file.write_text("time,power\n" + "\n".join(f"{t / 50},2.{t % 7}" for t in range(0, 2000)))
    assert "no load step" in meter.Recorder({"file": str(file)}).energy(WINDOWS, 0.0)["reason"]
    assert "No such file" in meter.Recorder({"file": str(tmp_path / "x")}).energy(WINDOWS, 0.0)["reason"]


@contextlib.contextmanager
def serial_meter(line):
    """A pseudo-terminal that prints `line()` a hundred times a second; yields its name."""
    master, slave = pty.openpty()
    end = threading.Event()

    def prints():
        while not end.wait(0.01):
            os.write(master, line())

    thread = threading.Thread(target=prints)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        end.set()
        thread.join()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        (b"5.00 V,%.3f A\r\n", {"voltage": 0, "current": 1}),
        (b"17\t%.3f\t5.00\r\n", {"voltage": 2, "current": 1}),
        (b"n 17 %.3f 5.00\n", {"voltage": 3, "current": 2}),
    ],
)
def test_a_serial_meter_is_recorded_while_the_device_works(monkeypatch, line, columns):
    """A meter that shows 2 W, 5 W while our windows work, then 2 W."""
    monkeypatch.setattr(power, "SETTLE_S", 0.3)
    busy = threading.Event()

    def work():
        busy.set()
        time.sleep(0.01)

    real_busy = power._busy
    monkeypatch.setattr(power, "_busy", lambda action, s: (real_busy(action, s), busy.clear())[0])
    with (
        serial_meter(lambda: line % (1.0 if busy.is_set() else 0.4)) as port,
        meter.Recorder({"port": port, "columns": columns, "baud": 115200}) as recorder,
    ):
        windows = power.run_windows(work, 1.0, 1.5)
    found = recorder.energy(windows, 0.0)
    assert found["reason"] is None and found["idle_w"] == pytest.approx(2, rel=0.25)  # by when work begins
    assert found["active_w"] == pytest.approx(5, rel=0.05) and found["n"] == windows["n"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"port": "/dev/ttyNone0"}, "/dev/ttyNone0: No such file or directory"),
        ({"port": "/dev/null"}, r"/dev/null: Could not configure port.*"),
        ({"baud": -5}, r"/dev/.*: Not a valid baudrate: -5"),
    ],
)
def test_a_port_that_does_not_open_is_a_reason(spec, reason):
    with serial_meter(lambda: b"1\n") as port, meter.Recorder({"port": port, "baud": 115200} | spec) as recorder:
        pass
    assert re.fullmatch(f"meter: {reason}", recorder.energy(WINDOWS, 0.0)["reason"])


def test_a_meter_that_is_unplugged_or_read_by_another_is_a_reason():
    master, slave = pty.openpty()
    spec = {"port": os.ttyname(slave), "baud": 9600, "columns": {"power": 0}}
    with meter.Recorder(spec) as recorder:
        with meter.Recorder(spec) as second:
            pass
        os.close(slave)
        os.close(master)
        recorder.thread.join(5)
        assert not recorder.thread.is_alive()
    assert "another program reads it" in second.energy(WINDOWS, 0.0)["reason"]
    assert re.fullmatch(r"meter: /dev/pts/\d+: .+", recorder.energy(WINDOWS, 0.0)["reason"])


class Port:
    """A serial port that gives its lines, then nothing: after `wait` seconds, as at the time-out of a port, or at once,
    as one does whose meter is gone."""

    def __init__(self, wait: float, *lines: bytes):
        self.wait, self.lines, self.reads, self.in_waiting = wait, list(lines), 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.lines:
            return self.lines.pop(0)
        time.sleep(self.wait)
        return b""


@pytest.mark.parametrize(("wait", "gone"), [(0.0, True), (meter.WAIT_S, False)])
def test_an_unplugged_meter_is_no_busy_loop(wait, gone):
    port, recorder = Port(wait, b"1.5\n", b"1.6\n"), meter.Recorder({"port": "/dev/ttyUSB0", "columns": {"power": 0}})
    thread = threading.Thread(target=recorder._record, args=(port,), daemon=True)
    thread.start()
    thread.join(30 if gone else 0.5)
    assert thread.is_alive() != gone and (port.reads < 10 or not gone)
    recorder.stop.set()
    thread.join(5)
    assert recorder.lines == ["1.5", "1.6"] and (recorder.error or "").startswith("/dev/ttyUSB0: the meter is") == gone


def test_without_pyserial_the_reason_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with meter.Recorder({"port": "/dev/ttyUSB0", "baud": 9600}) as recorder:
        pass
    assert recorder.energy(WINDOWS, 0.0)["reason"].endswith("needs pyserial: pip install pyserial")


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_estimate_counts_what_is_multiplied_not_what_is_given(dtype):
    """An int8 ONNX file takes float pictures, a float OpenVINO file bytes."""
    device = Device.model_validate({"name": "a", "transport": "local", "energy": {"source": "estimate"}})
    info = SimpleNamespace(macs=1_000_000, size_bytes=1000, quantization={"scheme": "int8"})
    info.input = SimpleNamespace(dtype=dtype, tiles=Tiles())
    assert result.energy(device, info, None) == estimate.estimate(1_000_000, 1000, "int8")
    info.quantization = None
    assert result.energy(device, info, None) == estimate.estimate(1_000_000, 1000, "float32")


def test_estimate_by_hand():
    found = estimate.estimate(macs=1_000_000, size_bytes=1_000_000, dtype="int8")
    assert found["low_mj"] == pytest.approx(1e6 * 0.3e-9 + 1e6 * 162.5e-9)
    assert found["high_mj"] == pytest.approx(1e6 * 0.3e-9 + 1e6 * 325e-9) and found["method"] == "estimated"
    assert estimate.estimate(1000, 0, "float32")["value_mj"] == pytest.approx(1000 * 4.6e-9)


@pytest.mark.slow
def test_a_local_device_measures_with_a_sensor(tmp_path):
    """The whole way through a process of its own, the sensor a recorded tree; a missing one leaves a reason."""
    tree(tmp_path / "hwmon4", {"name": "ina226", "in1_input": 5000, "curr1_input": 600})
    model = tiny_models.build() / "int8"
    code = (
        "import sys, json; from pathlib import Path; from hardware_runners.runner.energy import hwmon\n"
        f"hwmon.ROOT = Path({str(tmp_path)!r})\n"
        "from hardware_runners.runner.remote import power; power.SETTLE_S = 0.1\n"
        "print(json.dumps(power.measure(sys.argv[1], 1, json.loads(sys.argv[2]))))"
    )
    spec = {"source": "ina2xx", "window_s": 1.0, "idle_s": 1.0, "rate_hz": 50.0}
    command = [sys.executable, "-c", code, str(model), json.dumps(spec)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["gross_mj"] == pytest.approx(3.0 * found["window_s"] / found["n"] * 1e3)
    assert abs(found["net_mj"]) < 0.02 * found["gross_mj"] and found["samples"] > 2
    device = Device.model_validate({"name": "local", "transport": "local", "energy": {"source": "jetson"}})
    row = transports.measure(device, model, 2, 1, [1], "test")
    reason = result.energy(device, None, row["energy"])["reason"]
    assert reason.startswith("jetson: no INA3221 rail VDD_IN")
    spec = {"source": "meter", "file": str(tmp_path / "none.csv"), "window_s": 1.0, "idle_s": 1.0}
    row = transports.measure(device.model_copy(update={"energy": Energy(**spec)}), model, 2, 1, [1], "test")
    assert "none.csv: No such file" in result.energy(device, None, row["energy"])["reason"] and len(row["blocks"]) == 1


@pytest.mark.parametrize(
    ("found", "how"),
    [
        (energy.figure("rapl", "CPU package", WINDOWS, 50, 20, 100), "measured (rapl: CPU package, net of idling)"),
        (estimate.estimate(1, 1, "int8"), f"estimated ({estimate.CITATION}: arithmetic and weights from DRAM)"),
        ({"value_mj": None, "method": "none", "reason": "no sensor"}, "not measured (no sensor)"),
    ],
)
def test_the_report_keeps_them_apart(found, how):
    """Rows whose text differs share neither a panel nor a series."""
    assert summary.how_energy(found, found) == how
