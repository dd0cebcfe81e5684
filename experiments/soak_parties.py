"""What stands around a watch that soaks: a broker, a consumer that stores each event once, a reader of its clips."""

import contextlib
import hashlib
import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.errors import UserError
from edge.event import Event, from_json
from edge.link.keys import read_keys
from edge.link.seal import unseal

LOCAL = "127.0.0.1"


def mosquitto() -> str | None:
    """The program, which lies where only root looks; None where there is none."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Broker:
    """A mosquitto on a free port of this machine, in a folder of its own; UserError where there is none."""

    def __init__(self, folder: Path):
        program = mosquitto()
        if program is None:
            raise UserError("no mosquitto; apt-get install mosquitto")
        folder.mkdir()
        with socket.create_server((LOCAL, 0)) as listening:
            self.port = listening.getsockname()[1]
        lines = (f"listener {self.port} {LOCAL}", "allow_anonymous true", "max_queued_messages 0")
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen([program, "-c", config], stdout=log, stderr=log)
        self.pid = self._process.pid
        end = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                self._process.kill()
                raise UserError(f"mosquitto does not start: {(folder / 'log').read_text().strip()[-500:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection((LOCAL, self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class Store:
    """Opens the events of all devices, and keeps each message once by its id, in the order of the first arrivals;
    `ended` is called with each event that has a clip."""

    def __init__(self, port: int, keys: Path, ended: Callable[[Event], None]):
        import paho.mqtt.client as paho

        self._keys, self._ended = read_keys(keys), ended
        self.stored: dict[str, int] = {}  # the number in its event of each message
        self.again = self.unreadable = 0
        self._subscribed = threading.Event()
        client: Any = paho.Client(paho.CallbackAPIVersion.VERSION2, "store", protocol=paho.MQTTv5)
        self._client = client
        client.on_connect = lambda *_: client.subscribe("edge-vision/+/events", 1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._take
        client.connect(LOCAL, port)
        client.loop_start()
        if not self._subscribed.wait(10):
            raise UserError("the broker does not let anybody subscribe")

    def _take(self, client: Any, data: Any, message: Any) -> None:
        try:
            event = from_json(unseal(message.payload, self._keys)[1])
        except UserError:
            self.unreadable += 1
            return
        if event.message in self.stored:
            self.again += 1
            return
        self.stored[event.message] = event.sequence
        if event.clip is not None:
            self._ended(event)

    def counts(self, printed: list[str]) -> dict[str, int]:
        """What became of the messages that the watch printed."""
        last: dict[str, int] = {}
        wrong = 0
        for name, sequence in ((message.rpartition("/")[0], number) for message, number in self.stored.items()):
            wrong += sequence != last.get(name, -1) + 1
            last[name] = sequence
        return {
            "printed": len(printed),
            "stored": len(self.stored),
            "missing": len(set(printed) - set(self.stored)),
            "arrived_again": self.again,
            "unreadable": self.unreadable,
            "out_of_order": wrong,
        }

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class ClipReader:
    """Reads each clip and its picture as it comes, before the budget deletes it, with OpenCV and with PyAV."""

    def __init__(self, folder: Path):
        import cv2

        try:
            import av
        except ImportError:
            raise UserError("no PyAV, which reads the clips a second time; pip install av") from None
        self._folder, self._cv2, self._av = folder, cv2, av
        self._kept = folder.with_name(folder.name + "-read")
        self._kept.mkdir(exist_ok=True)
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._read = self._frames = self._pictures = 0
        self._pending = 0
        self._unplayable: list[str] = []
        self._unread: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        """Reads the clip later; a link keeps it where the disk budget deletes it before."""
        assert event.clip is not None
        self._pending += 1
        for name in filter(None, (event.clip.name, event.clip.picture)):
            with contextlib.suppress(FileNotFoundError):
                os.link(self._folder / name, self._kept / name)
        self._queue.put(event)

    def idle(self) -> bool:
        return self._read + len(self._unread) + len(self._unplayable) >= self._pending

    def counts(self) -> dict[str, Any]:
        found = {"read": self._read, "frames_read": self._frames, "pictures_read": self._pictures}
        return found | {"unplayable": self._unplayable, "unread": self._unread}

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            assert event.clip is not None
            path = self._kept / event.clip.name
            if not path.exists():
                self._unread.append(event.clip.name)
                continue
            why = self._why(event, path)
            path.unlink()
            if why:
                self._unplayable.append(f"{event.clip.name}: {why}")
            else:
                self._read += 1

    def _why(self, event: Event, path: Path) -> str:
        """What is wrong with a clip, "" where nothing is."""
        assert event.clip is not None
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != event.clip.sha256:
                return "not the bytes that its event names"
            capture, frames = self._cv2.VideoCapture(str(path)), 0
            while capture.read()[0]:
                frames += 1
            with self._av.open(str(path)) as container:
                again = sum(1 for _ in container.decode(video=0))
            if not frames or frames != again:
                return f"{frames} frames by OpenCV, {again} by PyAV"
            self._frames += frames
            if event.clip.picture is not None:
                if self._cv2.imread(str(self._kept / event.clip.picture)) is None:
                    return "its picture can't be read"
                self._pictures += 1
                (self._kept / event.clip.picture).unlink()
        except Exception as error:  # whatever a decoder raises
            return f"{type(error).__name__}: {error}"
        return ""

    def __enter__(self) -> "ClipReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join(60)
