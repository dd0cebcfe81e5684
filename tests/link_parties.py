"""What a link talks to in tests: certificates, an HTTPS server, a mosquitto that can be killed, a line that can be cut,
a consumer that stores each message once, and messages for it."""

import contextlib
import datetime
import functools
import http.server
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_event import event

from edge.event import from_json
from edge.inference.fields import Fields
from edge.link import link as link_module
from edge.link.keys import new_keys, read_keys, write_keys
from edge.link.seal import unseal
from edge.link.settings import parse

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
LOCAL = "127.0.0.1"


@functools.cache
def has_mosquitto() -> bool:
    return Path(MOSQUITTO).exists()


def free_port() -> int:
    with socket.create_server((LOCAL, 0)) as listening:
        return listening.getsockname()[1]


def until(condition, seconds: float = 10, step: float = 0.005):
    """Waits until the condition holds; what it gave last."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(step)
    return found


def private(path: Path, text: str | bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class Authority:
    """A certificate authority in a folder: `ca.pem`, and `issue(name)` makes NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str = "test authority"):
        self.folder, self.file = folder, folder / "ca.pem"
        folder.mkdir(exist_ok=True)
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), name
        made = self._build(name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, host: str = LOCAL, days: int = 1) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        try:
            other = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            other = x509.DNSName(host)
        made = self._build(name, key, x509.SubjectAlternativeName([other]), days)
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        options = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        private(file, key.private_bytes(serialization.Encoding.PEM, *options))
        return certificate, file

    def _build(self, name, key, extension, days: int = 1):
        def named(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(named(self._name), named(name), key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=30))
        builder = builder.not_valid_after(now + datetime.timedelta(days=days))
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def site(folder: Path, address: str, pair: bool = True, **more):
    """The settings of a link whose keys lie in the folder (device.json, server.json)."""
    if not (folder / "device.json").exists():
        device, server = new_keys("2026", pair)
        write_keys(folder / "device.json", device)
        write_keys(folder / "server.json", server)
    values = {"address": address, "keys": "device.json", **more}
    return Fields(folder / "site.json", values, "link.").parsed(lambda fields: parse(fields, "gate-1"))


class Inbox:
    """Stores each event once, by what its CloudEvent is told by, in the order of the first arrivals."""

    def __init__(self, keys: Path):
        self.keys, self.events, self.twice, self.other = read_keys(keys), {}, 0, []

    def take(self, message: bytes) -> None:
        content, plain = unseal(message, self.keys)
        if content != "cloudevents+json":
            self.other.append((content, plain))
            return
        event, outside = from_json(plain), json.loads(plain)
        if (outside["source"], outside["id"]) in self.events:
            self.twice += 1
        else:
            self.events[outside["source"], outside["id"]] = event

    def ids(self) -> list[str]:
        return [event.message for event in list(self.events.values())]  # it may grow meanwhile


class Broker:
    """A mosquitto on a free port, in a folder; it keeps nothing when it is killed."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None, host: str = LOCAL):
        self.folder, self.port, self.host = folder, port or free_port(), host
        folder.mkdir(exist_ok=True)
        self._config = folder / "mosquitto.conf"
        defaults = {"allow_anonymous": "true", "persistence": "false", "user": "root", "max_queued_messages": "0"}
        given = {line.split()[0] for line in lines}
        # without a user, a broker that root starts can't read the files of the tests
        more = (f"{key} {value}" for key, value in defaults.items() if key not in given)
        lines = (f"listener {self.port} {host}", *lines, *more)
        self._config.write_text("\n".join(lines) + "\n")
        self._process = None
        self.start()

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdout=log, stderr=log)
        assert until(self._answers) and self._process.poll() is None, (self.folder / "log").read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """In order."""
        self._process.terminate()
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Consumer:
    """Subscribes to everything below a prefix, takes events into an inbox and keeps the rest by topic."""

    def __init__(self, broker: Broker, inbox: Inbox | None, prefix: str = "edge-vision", **options):
        self.inbox, self.topics, self.subscribed, self.qos = inbox, {}, threading.Event(), set()
        self.client = client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.reconnect_delay_set(0.02, 0.02)
        client.on_connect = lambda *_: client.subscribe([(f"{prefix}/#", 1), ("homeassistant/#", 1)])
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.on_disconnect = lambda *_: self.subscribed.clear()
        client.on_message = self._take
        if "context" in options:
            client.tls_set_context(options["context"])
        if "user" in options:
            client.username_pw_set(*options["user"])
        client.connect_async(broker.host, broker.port)
        client.loop_start()

    def _take(self, client, data, message) -> None:
        self.qos.add(message.qos)
        if message.topic.endswith(("/events", "/clips")) and self.inbox is not None:
            self.inbox.take(message.payload)
        else:
            self.topics.setdefault(message.topic, []).append(message.payload)

    def __enter__(self):
        assert self.subscribed.wait(10)
        return self

    def __exit__(self, *_):
        self.client.on_disconnect = None
        self.client.disconnect()
        self.client.loop_stop()


class Line:
    """A TCP proxy to a broker or server: `cut` breaks the connections, `stall` lets nothing through."""

    def __init__(self, port: int):
        self._to, self._open, self._flows, self._up = port, [], threading.Event(), True
        self._flows.set()
        self._server = socket.create_server((LOCAL, 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    if not self._up:
                        raise OSError("cut")
                    far = socket.create_connection((LOCAL, self._to), 10)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, a, b) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                self._flows.wait()
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, up: bool = False) -> None:
        """Breaks what is open, in the middle of what it carries; unless `up`, takes nothing new until `mend`."""
        self._up, ends, self._open = up, self._open, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        self._up = True
        self._flows.set()

    def stall(self) -> None:
        self._flows.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.close()
        self.mend()
        self.cut()


class Server:
    """An HTTP(S) server that takes messages into an inbox; `answers` are the statuses of its next answers."""

    def __init__(self, inbox: Inbox, context: ssl.SSLContext | None = None):
        self.inbox, self.requests, self.answers, self.drop = inbox, [], [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers)))
                status = outer.answers.pop(0) if outer.answers else 204
                if status == 204:
                    outer.inbox.take(body)
                if outer.drop:  # stored, but the answer is lost
                    outer.drop -= 1
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response(status)
                if status in (301, 307):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self._server = Quiet((LOCAL, 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def messages(count: int, start: int = 0) -> list:
    """Messages of events of three each: new, update, end."""
    phases = ["new", "update", "end"]
    return [event(id=f"e{i // 3}", phase=phases[i % 3], sequence=i % 3, clip=None) for i in range(start, start + count)]


def pauses(monkeypatch, first: float, longest: float) -> None:
    """Has links try again after so many seconds."""
    monkeypatch.setattr(link_module, "PAUSE", first)
    monkeypatch.setattr(link_module, "LONGEST_PAUSE", longest)


@contextlib.contextmanager
def links():
    """A list of links; those that are still open at the end are closed."""
    made = []
    yield made
    for link in made:
        if link._thread.is_alive():
            link.close(0)


@contextlib.contextmanager
def one_by_one(build):
    """`build`, which closes what it made before; the last one is closed at the end."""
    made = []

    def make(**options):
        if made:
            made[-1].close()
        made.append(build(**options))
        return made[-1]

    yield make
    if made:
        made[-1].close()
