"""Certificates, and the processes of compose.yaml started with its own commands: one alarm from end to end, and what
the broker refuses."""

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import paho.mqtt.client as paho
import pytest
import yaml
from conftest import ROOT
from cryptography import x509
from link_parties import MOSQUITTO, Consumer, Inbox, environment, free_port, has_mosquitto, until
from watching import video

from deploy import issue
from edge.link.endpoint import tls
from edge.link.keys import new_keys, write_keys
from edge.watch.site import read_site

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


# certificates


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """An authority, the broker, the server and two devices, and the key that opens what gate-1 seals."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    for command, *names in (
        ("authority",),
        ("server", "broker.example", "192.0.2.7"),
        *(("device", name) for name in ("gate-1", "gate-2", "server")),
    ):
        assert issue.main([command, str(folder), *names]) == 0
    device, server = new_keys("2026", True)
    write_keys(folder / "gate-1/device.json", device)
    write_keys(folder / "server.json", server)
    return folder


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())


def test_what_is_issued(secrets):
    parties = {"broker", "monitor", "server", "gate-1", "gate-2"}
    assert {path.name for path in secrets.iterdir()} == {*parties, "ca.pem", "ca.key", "server.json"}
    for key in secrets.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for name in parties:
        found = certificate(secrets / name)
        assert found.subject.rfc4514_string() == f"CN={'broker.example' if name == 'broker' else name}"
        assert (secrets / name / "ca.pem").read_bytes() == (secrets / "ca.pem").read_bytes()
        purpose = "sslserver" if name == "broker" else "sslclient"
        for asked, code in ((purpose, 0), ({"sslserver": "sslclient"}.get(purpose, "sslserver"), 2)):
            command = ["openssl", "verify", "-x509_strict", "-purpose", asked, "-CAfile", secrets / "ca.pem"]
            done = subprocess.run([*command, secrets / name / "certificate.pem"], capture_output=True, text=True)
            assert done.returncode == code, done.stderr
    names = certificate(secrets / "broker").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example", "broker", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["authority", "{}"], "ca.pem: is there; a new authority would make every certificate worthless"),
        (["device", "{}", "gate-1"], "gate-1: is there; move it away to issue another"),
        (["server", "{}", "other"], "broker: is there; move it away to issue another"),
        (["device", "{}", "a/b"], "'a/b': a device's name has letters, digits, '.', '_' and '-', 64 at most"),
        (["device", "{}", "+"], "'+': a device's name has"),
        (["device", "{}", ".."], "'..': a device's name has"),
        (["device", "{}", "x" * 65], ": a device's name has"),
        (["device", "{}", "monitor"], "and is not broker, monitor"),
        (["device", "{}", "gate-3", "--days", "0"], "--days 0: must be from 1 to 3650"),
        (["server", "{}/none", "a_b"], "'a_b': neither a name of a host nor an address"),
        (["server", "{}/none", "192.0.2.700"], "'192.0.2.700': neither a name of a host nor an address"),
        (["server", "{}/none", f"{'a' * 64}.example"], "neither a name of a host nor an address"),
        (["device", "{}/none", "gate-3"], "ca.key: not found; run python -m deploy.issue authority"),
        (["authority", "{}/ca.pem/x"], "Not a directory"),
    ],
)
def test_what_is_refused_is_one_line_and_changes_nothing(secrets, capsys, words, message):
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert issue.main([word.format(secrets) for word in words]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before


def test_a_damaged_authority(tmp_path, capsys):
    assert issue.main(["authority", str(tmp_path / "a")]) == 0
    (tmp_path / "a/ca.key").write_text("nothing")
    assert issue.main(["device", str(tmp_path / "a"), "gate-1"]) == 1
    assert "ca.key or ca.pem is damaged" in capsys.readouterr().err and not (tmp_path / "a/gate-1").exists()


# compose.yaml


@pytest.mark.parametrize("service", list(SERVICES.values()), ids=list(SERVICES))
def test_a_service_is_closed(service):
    assert service["read_only"] is True and service["user"] == "${EDGE_USER:-1000:1000}"
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] and service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    writable = [volume["source"] for volume in service["volumes"] if not volume.get("read_only")]
    assert writable and all(source.startswith("./state/") for source in writable)


def test_files_that_containers_read_are_there():
    sources = {volume["source"] for service in SERVICES.values() for volume in service["volumes"]}
    made = {source for source in sources if source.startswith(("./secrets/", "./state/"))}
    assert all((DEPLOY / source).is_file() for source in sources - made)
    build = SERVICES["watcher"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    site = read_site(DEPLOY / "site.json")
    assert f"./secrets/{site.device}" in made and site.link.prefix == f"edge-vision/{site.device}"


class Site:
    """The folders of compose.yaml in a folder here; `here` is a path or text of a container in this folder's terms."""

    def __init__(self, folder: Path, secrets: Path):
        self.folder, self.port = folder, free_port()
        shutil.copytree(secrets, folder / "secrets")
        for name in ("mosquitto.conf", "acl", "site.json"):
            shutil.copy(DEPLOY / name, folder)
        for name in ("broker", "watcher"):
            (folder / "state" / name).mkdir(parents=True)
        config = self.here("broker", (folder / "mosquitto.conf").read_text())
        config += "user root\n" * (os.geteuid() == 0)  # else mosquitto becomes another user
        (folder / "mosquitto.conf").write_text(config.replace("listener 8883", f"listener {self.port} 127.0.0.1"))
        site = json.loads(self.here("watcher", (folder / "site.json").read_text()))
        site["cameras"][0] |= {"source": str(video(folder / "in.avi")), "loop": True, "rate": 25}
        site["link"]["address"] = f"mqtts://localhost:{self.port}"
        site["stats"] = 1
        (folder / "site.json").write_text(json.dumps(site))

    def here(self, service: str, text: str) -> str:
        for volume in SERVICES[service]["volumes"]:
            text = re.sub(rf"{volume['target']}\b", str(self.folder / volume["source"]), text)
        return text.replace("$$", "$")

    def command(self, service: str) -> list[str]:
        words = [self.here(service, word) for word in SERVICES[service]["command"]]
        return [MOSQUITTO, *words[1:]] if service == "broker" else [sys.executable, "-m", "edge", *words]

    def start(self, service: str) -> subprocess.Popen:
        with open(self.folder / f"{service}.log", "wb") as log:
            return subprocess.Popen(self.command(service), stdout=log, stderr=log, env=environment(), cwd=self.folder)

    def healthy(self, service: str) -> bool:
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        words = [self.here(service, word).replace("8883", str(self.port)) for word in words]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return subprocess.run(command, capture_output=True).returncode == 0

    def context(self, name: str) -> ssl.SSLContext:
        own = self.folder / "secrets" / name
        return tls(own / "ca.pem", own / "certificate.pem", own / "certificate.key")

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()


@pytest.fixture
def site(tmp_path, secrets):
    """With its broker running."""
    made = Site(tmp_path / "site", secrets)
    broker = made.start("broker")
    assert until(lambda: "running" in made.log("broker"), 20), made.log("broker")
    made.broker = broker
    yield made
    made.broker.terminate()
    made.broker.wait()


needs_broker = pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)")


@needs_broker
@pytest.mark.slow
def test_an_alarm_from_end_to_end(site):
    inbox = Inbox(site.folder / "secrets/server.json")
    broker = SimpleNamespace(host="localhost", port=site.port)
    assert not site.healthy("watcher")
    with Consumer(broker, inbox, context=site.context("server")) as consumer:
        watcher = site.start("watcher")
        try:
            assert until(lambda: inbox.events, 60), site.log("watcher")
            assert until(lambda: consumer.topics.get("edge-vision/gate-1/stats"), 20)
            assert site.healthy("watcher")
            if shutil.which("mosquitto_sub"):
                assert site.healthy("broker")
        finally:
            watcher.terminate()
            assert watcher.wait(30) == 0, site.log("watcher")
        assert until(lambda: consumer.topics["edge-vision/gate-1/available"][-1] == b"offline")
    (first, *_) = inbox.events.values()
    assert first.phase == "new" and first.device == "gate-1"
    for path in (site.folder / "state/watcher").glob("outbox.db*"):
        os.utime(path, (0, 0))
    assert not site.healthy("watcher")  # a watch that hangs writes nothing


class Client:
    """A client with the certificate of that name; `code` of each publication, and what it hears."""

    def __init__(self, site: Site, name: str | None, **more):
        self.done, self.codes, self.heard, self.connected = threading.Event(), {}, [], []
        self.client = client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, **more)
        client.on_connect = lambda *given: (self.connected.append(given[3]), self.done.set())
        client.on_publish = lambda _, __, number, code, ___: self.codes.update({number: code})
        client.on_message = lambda _, __, message: self.heard.append((message.topic, message.payload))
        client.tls_set_context(site.context(name) if name else tls(site.folder / "secrets/ca.pem", None, None))
        client.connect("localhost", site.port)
        client.loop_start()

    def publish(self, topic: str) -> str:
        sent = self.client.publish(topic, b"x", qos=1, retain=True)
        assert until(lambda: sent.mid in self.codes)
        return str(self.codes[sent.mid])

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@needs_broker
@pytest.mark.slow
def test_a_device_cannot_publish_or_read_as_another(site):
    server, thief = Client(site, "server"), Client(site, "gate-2")
    try:
        assert server.done.wait(10) and thief.done.wait(10)
        server.client.subscribe("edge-vision/#", 1)
        thief.client.subscribe("#", 1)
        assert thief.publish("edge-vision/gate-1/events") == "Not authorized"
        assert thief.publish("edge-vision/gate-1") == "Not authorized"
        assert thief.publish("homeassistant/x") == "Not authorized"
        assert thief.publish("edge-vision/gate-2/events") in ("Success", "No matching subscribers")
        assert server.publish("edge-vision/gate-1/dismiss") in ("Success", "No matching subscribers")
        assert server.publish("edge-vision/gate-2/dismiss") in ("Success", "No matching subscribers")
        assert until(lambda: len(server.heard) >= 3 and thief.heard)
        assert {topic for topic, _ in server.heard} == {
            *("edge-vision/gate-1/dismiss", "edge-vision/gate-2/dismiss", "edge-vision/gate-2/events")
        }
        assert all(topic.startswith("edge-vision/gate-2/") for topic, _ in thief.heard)
    finally:
        server.close()
        thief.close()


@needs_broker
@pytest.mark.slow
def test_a_client_id_is_the_name_in_the_certificate(site):
    """Who connects with another's client id ends that connection, unless the broker looks at the certificate alone."""
    device = Client(site, "gate-1", client_id="gate-1")
    left = threading.Event()
    device.client.on_disconnect = lambda *_: left.set()
    assert device.done.wait(10)
    thief = Client(site, "gate-2", client_id="gate-1")
    try:
        assert thief.done.wait(10) and not thief.connected[0].is_failure
        assert device.publish("edge-vision/gate-1/events") in ("Success", "No matching subscribers")
        assert not left.is_set()
    finally:
        device.close()
        thief.close()


@needs_broker
@pytest.mark.slow
def test_a_stolen_device_is_shut_out_by_a_line_of_the_access_list(site):
    with open(site.folder / "acl", "a") as stream:
        stream.write("\nuser gate-2\ntopic deny edge-vision/gate-2/#\n")
    site.broker.terminate()
    site.broker.wait()
    site.broker = site.start("broker")
    assert until(lambda: "running" in site.log("broker"), 20)
    for name, answers in (("gate-2", {"Not authorized"}), ("gate-1", {"Success", "No matching subscribers"})):
        client = Client(site, name)
        assert client.done.wait(10) and client.publish(f"edge-vision/{name}/events") in answers
        client.close()


@needs_broker
@pytest.mark.slow
def test_without_a_certificate_of_this_authority_nobody_connects(site, tmp_path):
    assert issue.main(["authority", str(tmp_path / "other")]) == 0
    assert issue.main(["device", str(tmp_path / "other"), "gate-1"]) == 0
    shutil.copytree(tmp_path / "other/gate-1", site.folder / "secrets/stranger")
    shutil.copy(site.folder / "secrets/ca.pem", site.folder / "secrets/stranger/ca.pem")
    assert [connects(site, name) for name in ("gate-1", None, "stranger")] == [True, False, False]


def connects(site: Site, name: str | None) -> bool:
    try:
        client = Client(site, name)
    except OSError:  # ssl.SSLError is one
        return False
    try:
        return client.done.wait(3) and not client.connected[0].is_failure
    finally:
        client.close()


def test_the_environment_of_conda_is_that_of_the_requirements():
    tree = yaml.safe_load((DEPLOY / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in tree["dependencies"] if isinstance(entry, dict))
    name = pip[0].removeprefix("--requirement ")
    assert (DEPLOY / name).samefile(ROOT / "requirements.txt") and "python=3.11" in tree["dependencies"]
