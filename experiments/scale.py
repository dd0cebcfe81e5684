"""`python -m experiments scale`: what the parts of a fleet do on one core here, for the model of docs/scale.md.

A device seals and keeps events, a broker (mosquitto) takes them, a server opens them; clips, neighbours of crops and
units of a sweep have their figures too. Takes a minute; what lacks its program is said to be not measured.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event as Signal
from typing import Any

import cv2
import numpy as np

from edge.errors import UserError
from edge.event import UTC, Clip, Event, Model, SeenObject
from edge.link.keys import new_keys, read_keys, write_keys
from edge.link.outbox import Outbox
from edge.link.seal import seal, sealing, unseal
from edge.watch.avi import AviFile
from edge.watch.recorder import Settings as ClipSettings
from experiments import provenance, scale_table, unit
from experiments.soak_parties import LOCAL, Broker, mosquitto
from hardware_runners.runner.remote import machine
from stages.common import atomic
from stages.report.formatting import markdown_list, markdown_table

OUT = Path("reports/scale.json")
SECONDS = 3.0  # of each measurement
BLOCKS = 6  # that it is divided into; the fastest counts, since others use the machine too
VECTORS, DIMENSIONS, QUERIES = 100_000, 64, 20
WINDOW = 20  # unacknowledged messages of MQTT
CLIP = 15.0  # seconds of a clip
FRAME = 480, 640


def example() -> Event:
    """An event as a camera at a gate has them: two objects, a zone, the model, a clip."""
    return Event(
        id="0123456789abcdef",
        phase="update",
        device="gate-1",
        camera="yard",
        rule="loiter at the gate",
        kind="loitering",
        time=datetime(2026, 6, 1, 12, tzinfo=UTC),
        sequence=1,
        zone="gate",
        context={"slot": "night", "weekday": 1},
        objects=(SeenObject("person", (0.1, 0.2, 0.25, 0.5), 0.875, 12), SeenObject("car", (0.5, 0.5, 1, 1), 0.5, 13)),
        score=1.5,
        threshold=0.75,
        model=Model("pruned-int8", "ab" * 32),
        clip=Clip("clip-0123456789abcdef.avi", "cd" * 32, 1_000_000, 12.5, "clip-0123456789abcdef.jpg"),
    )


def rate(once: Callable[[int], Any], seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """How often a second it can be done, one after the other, in the fastest block: of processor time, or of another
    clock where it also waits."""
    once(0)
    count, best = 0, 0.0
    for _ in range(BLOCKS):
        start, first = clock(), count
        while (passed := clock() - start) < seconds / BLOCKS:
            count += 1
            once(count)
        best = max(best, (count - first) / passed)
    return best


def events(folder: Path, seconds: float) -> dict[str, float]:
    """Of a device: sealed and in the outbox on this disk; of a server: opened. Bytes of the event, plain and sealed."""
    device, server = new_keys("scale", pair=True)
    write_keys(folder / "device.json", device)
    write_keys(folder / "server.json", server)
    keys, opening = read_keys(folder / "device.json"), read_keys(folder / "server.json")
    key, one = sealing(keys, folder / "device.json"), example()
    outbox = Outbox(folder / "outbox.db", most_messages=1000)

    def keep(i: int) -> None:
        outbox.put("event", seal(replace(one, sequence=i).to_json(), key, "cloudevents+json"))

    sealed = seal(one.to_json(), key, "cloudevents+json")
    found = {
        "event_bytes": len(one.to_json()),
        "sealed_bytes": len(sealed),
        "sealed_per_s": rate(lambda i: seal(one.to_json(), key, "cloudevents+json"), seconds),
        "kept_per_s": rate(keep, seconds, time.perf_counter),
        "opened_per_s": rate(lambda i: unseal(sealed, opening), seconds),
    }
    outbox.close()
    return found


def broker(folder: Path, seconds: float, size: int) -> dict[str, float] | None:
    """Messages of that size a second through mosquitto, QoS 1 from one publisher to one subscriber; None without it."""
    if mosquitto() is None:
        return None
    import paho.mqtt.client as paho

    clients = [paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5) for _ in range(2)]
    publisher, subscriber = clients
    listen: Any = subscriber  # its callbacks may take any arguments
    ready, payload, came = Signal(), bytes(size), []
    listen.on_connect = lambda *_: subscriber.subscribe("scale/#", 1)
    listen.on_subscribe = lambda *_: ready.set()
    listen.on_message = lambda client, data, message: came.append(time.perf_counter())
    publisher.max_inflight_messages_set(WINDOW)
    with Broker(folder / "broker") as running:
        try:
            for client in clients:
                client.connect(LOCAL, running.port)
                client.loop_start()
            if not ready.wait(10):
                raise UserError("mosquitto: takes no subscriber; look at its log")

            def publish(i: int) -> None:
                publisher.publish("scale/events", payload, 1)
                while i - len(came) > WINDOW:
                    time.sleep(0.0005)

            used = _cpu(running.pid)
            found = rate(publish, seconds, time.perf_counter)
            return {"messages_per_s": found, "broker_per_core_s": len(came) / (_cpu(running.pid) - used)}
        finally:
            for client in clients:
                client.loop_stop()


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process of one thread has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def clip(folder: Path) -> dict[str, float]:
    """Bytes of a clip and milliseconds of a frame: drawn frames of 640 x 480 at the defaults of a site."""
    height, width = FRAME
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(60, 180, (height // 8, width // 8, 3), dtype=np.uint8), (width, height))
    noise = rng.integers(0, 6, (height, width, 3), dtype=np.uint8)  # of a sensor
    file, count = AviFile(folder / "clip.avi", width, height), round(CLIP * ClipSettings.rate)
    start = time.process_time()
    for i in range(count):
        frame = np.roll(ground, i, 1) + noise
        cv2.circle(frame, (40 + i, height // 2), 40, (200, 40, 40), -1)
        file.add(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, ClipSettings.quality])[1].tobytes())
    file.finish(1 / ClipSettings.rate)
    spent = time.process_time() - start
    size = (folder / "clip.avi").stat().st_size
    return {"seconds": CLIP, "bytes": size, "bytes_per_s": size / CLIP, "frame_ms": 1000 * spent / count}


def vectors() -> dict[str, float]:
    """Milliseconds of a search for the nearest of all vectors without an index, one thread."""
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((VECTORS, DIMENSIONS), dtype=np.float32)
    times = []
    for query in rng.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32):
        start = time.process_time()
        int(np.argmax(stored @ query))
        times.append(1000 * (time.process_time() - start))
    return {"stored": VECTORS, "dimensions": DIMENSIONS, "bytes": stored.nbytes, "search_ms": float(np.median(times))}


def sweep(folder: Path) -> dict[str, float]:
    """Processor seconds of a unit besides its stages: clone, DVC, remote; the first time, and when all is cached."""
    project = folder / "project"
    for name in ("stages", "edge", ".dvc"):
        (project / name).mkdir(parents=True)
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (project / "params.yaml").write_text("seed: 0\n")
    command = f"mkdir -p reports && echo {{}} > {unit.RECORD}"
    (project / "dvc.yaml").write_text(
        f"stages:\n  report:\n    cmd: {command}\n    params: [seed]\n    outs: [{unit.RECORD}]\n"
    )
    (project / ".gitignore").write_text("/reports\n")
    (folder / "remote").mkdir()
    author = ["-c", "user.name=scale", "-c", "user.email=scale@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "scale"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True).stdout
    job = {"repository": str(project), "folder": "", "commit": head.strip(), "overrides": ["seed=1"], "cache": None}
    job |= {"remote": ["sweep", str(folder / "remote")], "scratch": str(folder / "scratch")}
    found = {}
    for name in ("unit_cpu_s", "cached_unit_cpu_s"):
        before = os.times()
        unit.do(job)
        after = os.times()
        found[name] = after.children_user + after.children_system - before.children_user - before.children_system
    return found


def measure(seconds: float) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"events": events(folder, seconds)}
        found["broker"] = broker(folder, seconds, int(found["events"]["sealed_bytes"]))
        found |= {"clip": clip(folder), "vectors": vectors(), "sweep": sweep(folder)}
    found["machine"] = {"cpu": machine.cpu_model(), "cores": os.cpu_count()}
    return found | {"code": provenance.current()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"of each measurement ({SECONDS})")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments: argparse.Namespace) -> None:
    if not 0.1 <= arguments.seconds <= 600:
        raise UserError(f"--seconds {arguments.seconds}: must be from 0.1 to 600")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = measure(arguments.seconds)
    atomic.write_json(arguments.output, found)
    print(markdown_table(scale_table.HEAD, scale_table.rows(found)))
    print(markdown_list(scale_table.notes(found)))
