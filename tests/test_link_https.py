"""Sending to a real HTTPS server: certificates, tokens, and every answer that a server may give."""

import contextlib
import re
import socket
import ssl
import threading

import pytest
from link_parties import LOCAL, Authority, Server, free_port, links, messages, pauses, private, site, until

from edge.link.link import Link


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pauses(monkeypatch, 0.01, 0.02)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def context(authority, name="server", clients=False, **options) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(*authority.issue(name, **options))
    if clients:
        found.verify_mode = ssl.CERT_REQUIRED
        found.load_verify_locations(authority.file)
    return found


@pytest.fixture
def send(tmp_path, said):
    """Has a link send a few events to a server at a port; `close` it to see what became of them."""

    def send(port, count=3, scheme="https", path="", **more) -> Link:
        made.append(Link(site(tmp_path, f"{scheme}://{LOCAL}:{port}{path}", **more), say=said.append))
        for message in messages(count):
            made[-1].send(message)
        return made[-1]

    with links() as made:
        yield send


def arrived(inbox, link, count=3) -> None:
    assert until(lambda: link.counts["waiting"] == 0)
    assert inbox.ids() == [message.message for message in messages(count)] and link.counts["refused"] == 0


def test_over_tls_with_a_token(inbox, send, authority, tmp_path):
    private(tmp_path / "token", "geheim-123")
    with Server(inbox, context(authority)) as server:
        link = send(server.port, path="/api", authority=str(authority.file), token_file="token")
        arrived(inbox, link)
    paths, headers = zip(*server.requests, strict=True)
    assert set(paths) == {"/api/events"} and inbox.twice == 0
    assert {h["Authorization"] for h in headers} == {"Bearer geheim-123"}
    assert {h["Content-Type"] for h in headers} == {"application/jose"}


def test_with_a_client_certificate(inbox, send, authority):
    certificate, key = map(str, authority.issue("gate-1"))
    with Server(inbox, context(authority, clients=True)) as server:
        files = {"authority": str(authority.file), "certificate": certificate, "certificate_key": key}
        arrived(inbox, send(server.port, **files))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")  # which is what the test is about
@pytest.mark.parametrize(
    ("why", "said_why"),
    [
        ("foreign", "certificate verify failed"),
        ("name", "IP address mismatch"),
        ("expired", "certificate has expired"),
        ("old", "(?i)protocol version|handshake failure|unsupported protocol"),
        ("plain", "wrong version number|record layer failure|SSL"),
        ("client", "(?i)certificate required|alert|EOF|reset|closed"),
    ],
)
def test_servers_that_are_not_the_one(inbox, send, authority, said, tmp_path, why, said_why):
    """Nothing is sent to them."""
    if why == "plain":
        served = None
    elif why == "foreign":
        served = context(Authority(tmp_path / "other"))
    else:
        options = {"name": {"host": "192.0.2.1"}, "expired": {"days": -1}}.get(why, {})
        served = context(authority, why, clients=why == "client", **options)
    if why == "old":
        served.minimum_version = ssl.TLSVersion.TLSv1
        served.maximum_version = ssl.TLSVersion.TLSv1_1
    with Server(inbox, served) as server:
        link = send(server.port, authority=str(authority.file))
        assert until(lambda: said)
        assert re.search(said_why, said[0]), said[0]
        assert link.counts["waiting"] == 3 and said[0].startswith(f"https://{LOCAL}:{server.port}: ")
        assert not server.requests and not inbox.events


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 408, 429, 500, 503])
def test_answers_after_which_it_is_sent_again(inbox, send, said, status):
    with Server(inbox) as server:
        server.answers = [status, status, 204, status]
        arrived(inbox, send(server.port, scheme="http"))
    assert said[0].startswith(f"http://{LOCAL}:{server.port}: the server answered with status {status}; ")
    assert {path for path, _ in server.requests} == {"/events"}  # no redirection was followed


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_answers_after_which_it_is_not(inbox, send, said, status):
    with Server(inbox) as server:
        server.answers = [204, status]
        link = send(server.port, scheme="http")
        assert until(lambda: link.counts["waiting"] == 0)
    assert inbox.ids() == ["e0/0", "e0/2"] and link.counts["refused"] == 1
    assert said == [f"http://{LOCAL}:{server.port}: the server refused a message (event) with status {status}"]


def test_a_lost_answer_makes_it_arrive_twice_and_be_stored_once(inbox, send):
    with Server(inbox) as server:
        server.drop = 2
        arrived(inbox, send(server.port, scheme="http"))
    assert inbox.twice == 2


def test_a_server_that_comes_later(inbox, send, said):
    port = free_port()
    link = send(port, scheme="http")
    assert until(lambda: said) and "Connection refused" in said[0]
    with socket.create_server((LOCAL, port)):
        pass
    server = Server(inbox)
    link._sender._endpoint = type(link._sender._endpoint)("http", LOCAL, server.port)
    with server:
        arrived(inbox, link)
    assert "the link is up again" in said[-1]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 204 No\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 500 \xff\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["none", "nonsense", "status", "headers", "long line", "chunks", "length", "long"],
)
def test_answers_that_are_none(inbox, send, said, answer):
    """Whatever a server says, the link goes on."""
    with socket.create_server((LOCAL, 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(0.2)
                    with contextlib.suppress(OSError):
                        while connection.recv(1 << 16):
                            pass
                    with contextlib.suppress(OSError):
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        link = send(listening.getsockname()[1], 1, scheme="http")
        assert until(lambda: said or link.counts["waiting"] == 0)
        assert link._thread.is_alive() and all("\n" not in line for line in said)
        link.close(0)
