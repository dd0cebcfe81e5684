"""`python -m experiments soak --minutes 60 --assets DIR --anomaly FOLDER --output record.json`: a watch over hours.

Loops a video at its own frame rate through `edge watch` with everything on: detector, tracker, the rules of
examples/pedestrian.json, an anomaly model, face guard, clips, and MQTT to a mosquitto of its own, whose messages a
consumer stores once. Ends with 1 unless memory stays flat after the warm-up, every frame is accounted for, every clip
plays, and every event is stored once and in order; the record has all figures, and what else the machine did.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from edge.errors import UserError
from edge.event import from_json
from edge.link.keys import new_keys, write_keys
from edge.watch.adopt import adopt
from experiments import provenance
from experiments.soak_parties import Broker, ClipReader, Store
from stages.common import atomic

EVERY = 10.0  # seconds between two looks at the process
FLAT = 0.02  # of the median: so far memory may go up or down after the warm-up
WARM_UP = 10.0  # minutes, or a third of a shorter run
BUSY = 0.25  # cores that others used: a machine on which frames may be late
RATE = 5  # pictures a second of clips
EXAMPLE = Path("examples/pedestrian.json")
LATE = 30.0  # seconds that the last messages and clips are waited for


def site(assets: Path, folder: Path, anomaly: Path, detector: Path, port: int, protocol: str) -> dict:
    """EXAMPLE with anomaly model, face guard, learned contexts and link added."""
    made = json.loads(EXAMPLE.read_text())
    (camera,) = made["cameras"]
    camera |= {"source": str(assets / "data/scenes/vtest.avi"), "loop": True, "anomaly": "scene"}
    models = {"people": detector, "scene": anomaly}
    return made | {
        "models": [{"name": name, "folder": str(path.resolve())} for name, path in models.items()],
        "rules": [*made["rules"], {"rule": "anomaly", "action": "record", "cooldown": 60}],
        "context": {"learn": True, "file": "learned.json"},
        "privacy": {"faces": str(assets / "weights/yunet/face_detection_yunet_n_320.onnx")},
        "clips": {**made["clips"], "rate": RATE, "budget_mb": 1000},
        "link": {"address": f"mqtt://127.0.0.1:{port}", "keys": "device.json", "protocol": protocol},
    }


class Process:
    """The watch, whose standard output (events and figures) a thread reads."""

    def __init__(self, site_file: Path):
        command = [sys.executable, "-m", "edge", "watch", str(site_file), "--json"]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.printed: list[str] = []  # the messages of events
        self.stats: dict = {}
        self.said: list[str] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.child.stdout or ():
            found = json.loads(line)
            if "stats" in found:
                self.stats = found["stats"]
            else:
                self.printed.append(from_json(line).message)

    def _listen(self) -> None:
        self.said += [line.decode(errors="replace").rstrip() for line in self.child.stderr or ()]

    def end(self) -> int:
        """By SIGTERM, as a service is ended; the exit code, that of SIGKILL where it did not end."""
        self.child.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(120)
        except subprocess.TimeoutExpired:
            self.child.kill()
            code = self.child.wait()
        for thread in self._threads:
            thread.join()
        return code


def look(pid: int) -> dict:
    """Resident memory in bytes, threads, open files, CPU seconds of a process; load and CPU seconds of the machine."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    ticks = os.sysconf("SC_CLK_TCK")
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    busy = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return {
        "rss": 1024 * int(status["VmRSS"][0]),
        "threads": int(status["Threads"][0]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "cpu": (int(own[11]) + int(own[12])) / ticks,
        "machine": (sum(busy) - busy[3] - busy[4]) / ticks,  # without idle and iowait
        "load": os.getloadavg()[0],
    }


def memory(looks: list[dict], warm: float) -> dict:
    """How far memory went from its median after the warm-up (seconds)."""
    after = sorted(one["rss"] for one in looks if one["at"] >= warm) or [looks[-1]["rss"]]
    median = after[len(after) // 2]
    return {
        "median_mb": round(median / 1e6, 2),
        "least": round(after[0] / median - 1, 5),
        "most": round(after[-1] / median - 1, 5),
        "warm_up_s": warm,
    }


def conditions(record: dict) -> dict[str, bool]:
    """What must hold."""
    frames, clips, events = record["frames"], record["clips"], record["events"]
    busy = record["machine"]["others_cores_used"] > BUSY
    kept = ("judged", "spared", "dropped", "withheld")
    return {
        "ended in order": record["exit_code"] == 0,
        "memory flat": record["memory"]["least"] >= -FLAT and record["memory"]["most"] <= FLAT,
        "frames in = judged + spared + dropped + withheld": frames["in"] == sum(frames[key] for key in kept),
        "at the video's frame rate, unless others took the cores": busy or record["fps"] >= 0.98 * record["video_fps"],
        "clips were made": clips["read"] > 0,
        "every clip plays": not clips["unplayable"] and not clips["unread"],
        "events were sent": events["printed"] > 0,
        "every event is stored once": events["stored"] == events["printed"] and not events["missing"],
        "the messages of an event in their order": events["out_of_order"] == 0,
        "nothing dropped or refused by the link": not record["link"]["dropped"] and not record["link"]["refused"],
    }


def soak(assets: Path, anomaly: Path, detector: Path | None, minutes: float, protocol: str, folder: Path) -> dict:
    """Runs it in an empty folder; the record."""
    import cv2

    if detector is None:
        detector = adopt("yolox", assets / "weights/yolox_nano/yolox_nano.onnx", folder / "detector")
    device, server = new_keys("soak", pair=True)
    write_keys(folder / "device.json", device)
    write_keys(folder / "server.json", server)
    warm, began, looks = 60 * min(WARM_UP, minutes / 3), time.monotonic(), []
    with Broker(folder / "broker") as broker, ClipReader(folder / "clips") as reader:
        made = site(assets, folder, anomaly, detector, broker.port, protocol)
        (folder / "site.json").write_text(json.dumps(made, indent=2))
        with Store(broker.port, folder / "server.json", reader.take) as store:
            process = Process(folder / "site.json")
            try:
                while time.monotonic() - began < 60 * minutes and process.child.poll() is None:
                    time.sleep(min(EVERY, max(0.0, began + 60 * minutes - time.monotonic())))
                    with contextlib.suppress(OSError, KeyError):  # one that has ended has no memory
                        looks.append({"at": round(time.monotonic() - began, 1), **look(process.child.pid)})
            finally:
                code = process.end()
            if not looks or not process.stats:
                why = " / ".join(process.said) or f"exit code {code}"
                raise UserError(f"the watch ended before it gave any figures: {why}")
            until(lambda: set(process.printed) <= set(store.stored), LATE)
        until(reader.idle, 10 * LATE)
        clips = reader.counts()
    (camera,) = process.stats["cameras"].values()
    video = cv2.VideoCapture(str(assets / "data/scenes/vtest.avi"))
    seconds, cores = looks[-1]["at"] - looks[0]["at"], os.cpu_count() or 1
    own = (looks[-1]["cpu"] - looks[0]["cpu"]) / max(seconds, EVERY)
    everybody = (looks[-1]["machine"] - looks[0]["machine"]) / max(seconds, EVERY)
    record = {
        "minutes": minutes,
        "exit_code": code,
        "said": process.said,
        "video_fps": video.get(cv2.CAP_PROP_FPS),
        "fps": camera["fps"],
        "frames": camera["frames"],
        "looks": camera["looks"],
        "latency_ms": camera["latency_ms"],
        "load": camera["load"],
        "memory": memory(looks, warm),
        "threads_most": max(one["threads"] for one in looks),
        "files_most": max(one["files"] for one in looks),
        "events": store.counts(process.printed) | {"phases": camera["events"]},
        "clips": process.stats["clips"] | clips,
        "link": process.stats["link"],
        "rules": [rule.get("name") or rule["rule"] for rule in made["rules"]],
        "models": {name: json.loads((path / "model.json").read_text())["name"] for name, path in
                   (("detector", detector), ("anomaly", anomaly))},
        "machine": {
            "name": platform.platform(),
            "cores": cores,
            "watch_cores_used": round(own, 3),
            "others_cores_used": round(everybody - own, 3),
        },
        "over_time": [
            {"s": one["at"], "rss_mb": round(one["rss"] / 1e6, 2), "load_1min": round(one["load"], 2)} for one in looks
        ],
        "code": provenance.current(),
    }  # fmt: skip
    return record | {"conditions": conditions(record)}


def until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def add_arguments(parser) -> None:
    parser.add_argument(
        "--assets", required=True, help="the folder with data/scenes/vtest.avi, weights/yolox_nano, ..."
    )
    parser.add_argument("--anomaly", required=True, help="a model folder such as artifacts/models/student-int8")
    parser.add_argument("--detector", help="a model folder of task detection (default: YOLOX-nano in ONNX)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5", help="of MQTT (default: 5)")
    parser.add_argument("--output", help="where the record goes; must not exist yet")


def run(arguments) -> None:
    output = Path(arguments.output) if arguments.output else None
    if not 0 < arguments.minutes <= 60 * 24 * 7:
        raise UserError(f"--minutes {arguments.minutes:g}: must be above 0 and at most a week")
    if output and output.exists():
        raise UserError(f"{output}: exists; choose a name that is free")
    if not EXAMPLE.is_file():
        raise UserError(f"{EXAMPLE}: not found; run from the folder that holds dvc.yaml")
    for name, value in (("--assets", arguments.assets), ("--anomaly", arguments.anomaly)):
        if not Path(value).is_dir():
            raise UserError(f"{name} {value}: no such folder")
    detector = Path(arguments.detector) if arguments.detector else None
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        where = Path(folder)
        record = soak(
            Path(arguments.assets).resolve(), Path(arguments.anomaly), detector, arguments.minutes,
            arguments.protocol, where,
        )  # fmt: skip
    if output:
        atomic.write_json(output, record)
    print(json.dumps({key: value for key, value in record.items() if key != "over_time"}, indent=2))
    failed = [name for name, holds in record["conditions"].items() if not holds]
    if failed:
        raise UserError(f"does not hold: {'; '.join(failed)}")
