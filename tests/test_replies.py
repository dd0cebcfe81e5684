"""Whatever a device prints, and whatever ~/.ssh holds, ends in one line or in the right answer."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import asyncssh
import pytest
from conftest import ROOT

from hardware_runners.runner.devices import Device, Limits
from hardware_runners.runner.errors import RunnerError, Unavailable
from hardware_runners.runner.transports import replies, ssh

M = replies.MARK.decode()
HOME = json.dumps({"missing": [], "home": "/x", "python": [3, 11, 0]})
FOUND = {
    "machine": {"python": "3.11.0", "architecture": "x86_64"},
    "versions": {},
    "delegates": {},
    "energy": [],
    "fingerprint": {"kernel": "6"},
    "free_mb": 9.5,
}


BLOCKLESS = '[{"sha256": "x", "machine": {}, "runtime": {}, "blocks": [{}]}]'


class Server:
    """An SSH server in this process whose shell is a function: what to do with a process."""

    def __init__(self, home):
        self.home, self.shell = home, None
        (home / ".ssh").mkdir(mode=0o700)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(home / ".ssh/id_ed25519"))
        key.write_public_key(str(home / "authorized"))
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()
        assert self.ready.wait(10)
        public = self.key.export_public_key().decode().strip()
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}\n")

    def serve(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.ready.set()
        self.loop.run_forever()

    async def listen(self):
        async def run(process):
            await self.shell(process)

        options = {"server_host_keys": [self.key], "authorized_client_keys": str(self.home / "authorized")}
        self.server = await asyncssh.listen("127.0.0.1", 0, process_factory=run, encoding=None, **options)
        self.port = self.server.get_port()

    async def end(self):
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def device(self) -> Device:
        tree = {"name": "pi", "transport": "ssh", "ssh": {"host": "127.0.0.1", "port": self.port, "user": "u"}}
        limits = {"connect_s": 4.0, "lock_wait_s": 0.0, "run_s": 0.5}
        return Device.model_validate({**tree, "python": "python3", "limits": limits, "fingerprint": {"kernel": "6"}})


@pytest.fixture(autouse=True)
def usual_limit():
    """Python's own limit of recursion, as in every command: onnx2tf, which other tests import, lifts it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Server(tmp_path)
    yield made
    asyncio.run_coroutine_threadsafe(made.end(), made.loop).result(10)
    made.loop.call_soon_threadsafe(made.loop.stop)


def prints(text: str, code: int = 0, errors: str = ""):
    async def shell(process):
        process.stdout.write(text.encode())
        process.stderr.write(errors.encode())
        process.exit(code)

    return shell


def good(before: str = "", upload: str = HOME, probe: str | None = None, results: str = "[]"):
    """A device that does what it should, with a login shell that prints `before` each time."""

    async def shell(process):
        found = json.dumps({**FOUND, "time": time.time()}) if probe is None else probe
        answers = {"remote.probe": found, "supervise.py": results}
        answer = next((text for name, text in answers.items() if f"{name}" in process.command[-60:]), upload)
        process.stdout.write(f"{before}{M}{answer}\n".encode())
        process.exit(0)

    return shell


def one_line(call, *arguments) -> str:
    with pytest.raises(RunnerError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value) and "device pi: " in str(caught.value)
    assert "unreachable" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "before", ["", "Welcome!\n", "no line end", "{}\n[1]\n", '{"missing": []}\n', "\xfc\0\n" * 9, "x\n" * 100_000]
)
def test_what_a_login_shell_prints_is_passed_over(server, before):
    server.shell = good(before)
    found = ssh.probe(server.device())
    assert found["fingerprint"] == {"kernel": "6"} and abs(found["clock_offset_s"]) < 2
    job = {"lock_wait_s": 0, "limit_s": 5, "heartbeat_s": 3.0, "commands": []}

    async def supervise():
        async with ssh.connect(server.device()) as connection:
            return await ssh.supervise(server.device(), connection, "/x", job)

    assert asyncio.run(supervise()) == []


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        (prints("This account is currently not available.\n", 1), "This account is currently not available."),
        (prints("This service allows sftp connections only.\n", 1), "allows sftp connections only."),
        (prints("{}\n"), "no answer while files went there: {}"),
        (prints("[]\n"), "the account there must run commands over ssh"),
        (prints("", 127, "bash: python3: command not found\n"), "bash: python3: command not found"),
        (prints(""), "ended with code 0"),
        (prints(M + "{}\n"), "missing, home, python is missing or of another kind"),
        (prints(M + "[1]\n"), "an unexpected answer"),
        (prints(M + "null\n"), "no answer"),
        (prints(M + "{\n"), "an answer that is no JSON: '{'"),
        (prints(M + "[" * 100_000 + "\n"), "an answer that is no JSON"),
        (prints(M + "9" * 5000 + "\n"), "an answer that is no JSON"),
        (prints(M + "\xff\n"), "an answer that is no JSON"),
        (prints(M + '{"missing": 1, "home": 2, "python": "3"}\n'), "missing, home, python is"),
        (prints(M + '{"error": "Read-only file system", "errno": 30}\n'), "can't store files in .cache/edge-vision: R"),
        (good(upload=HOME.replace('"/x"', '"x\\ny"')), "home"),
        (good(upload=HOME.replace("11", '"x"')), "python"),
        (good(probe="{}"), "machine, versions, delegates, energy, fingerprint, free_mb, time is missing"),
        (good(probe=json.dumps({**FOUND, "machine": {}, "time": 1})), "python, architecture is missing"),
        (good(probe="[]"), "an unexpected answer"),
        (prints("spam\n" * 300_000), "its login shell prints without end"),
        (prints("spam" * 300_000), "its login shell prints without end"),
    ],
)
def test_an_unexpected_answer_is_one_line(server, shell, words):
    server.shell = shell
    assert words in one_line(ssh.probe, server.device())


@pytest.mark.parametrize("results", ["{}", "null", "1", "[[]]", "[1]", '[{"a": 1}]', BLOCKLESS, '[{"a": 1}, {}]'])
def test_an_unexpected_result_is_one_line(server, results, tmp_path):
    server.shell = good(results=results)
    (tmp_path / "m").mkdir()
    message = one_line(ssh.measure, server.device(), tmp_path / "m", 2, 1, [1], "me")
    assert "answer" in message


# ~/.ssh


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("known_hosts", "[127.0.0.1]:22 ssh-ed25519\nx y z\n|1|a\n", "known_hosts"),
        ("config", "Include config\n", "leads back to itself"),
        ("config", "Host *\n  ProxyJump 127.0.0.1\n", "leads back to itself"),
        ("config", "Host *\n  IdentityFile ~/.ssh/gone\n", "/.ssh/gone: No such file or directory"),
        ("config", "Host *\n  ProxyCommand /no/such/program %h %p\n", "/no/such/program: No such file or directory"),
        ("config", "Host *\n  Port many\n", "config"),
    ],
)
def test_what_is_wrong_in_the_ssh_folder_is_named(server, file, text, words, tmp_path):
    server.shell = good()
    (tmp_path / ".ssh" / file).write_text(text)
    assert words in one_line(ssh.probe, server.device())


# processes there that are stopped: they never answer, never end, never close their channel


async def stopped(process):
    await asyncio.sleep(600)


async def stopped_supervisor(process):
    await (stopped if "supervise.py" in process.command[-60:] else good())(process)


async def stopped_in_the_upload(process):
    process.stdout.write(f"{M}{HOME.replace('[]', json.dumps(NAMES), 1)}\n".encode())
    await asyncio.sleep(600)


async def endless(process):
    while True:
        process.stdout.write(b"x" * 100)
        await asyncio.sleep(0.01)


NAMES = [f"model-{'0' * 20}"]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(ssh, "STALL_S", 0.5)
    monkeypatch.setattr(ssh, "SLACK_S", 0.5)


@pytest.mark.parametrize("shell", [stopped, stopped_in_the_upload, stopped_supervisor, endless])
def test_a_stopped_process_there_ends_the_run_at_the_time_out(server, short, shell, tmp_path, monkeypatch):
    server.shell = shell
    (tmp_path / "m").mkdir()
    monkeypatch.setattr(ssh.bundle, "_bundle", lambda kind, files: ssh.bundle.Bundle(NAMES[0], {"a": bytes(9)}))
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"^device pi: lost while .* \(no answer for [\d.]+ s\)$"):
        ssh.measure(server.device(), tmp_path / "m", 2, 1, [1], "me")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("shell", [stopped, stopped_supervisor])
def test_an_interrupt_ends_a_run_with_a_stopped_process(server, shell, tmp_path):
    server.shell = shell
    (tmp_path / "m").mkdir()
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ssh.measure(server.device().model_copy(update={"limits": LONG}), tmp_path / "m", 2, 1, [1], "me")
    assert time.monotonic() - begun < 30


LONG = Limits(run_s=500.0)


def test_deep_nesting_never_reaches_the_parser():
    """Where a library has lifted the limit of recursion, json's own would end the process instead of raising."""
    program = (
        "import sys; from hardware_runners.runner.transports import replies\n"
        "sys.setrecursionlimit(2**31 - 1)\n"
        "for line in (b'[' * 500_000, b'{\"a\":' * 300_000):\n"
        "    try: replies.Replies('pi', None).parsed(line)\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == ["RunnerError"] * 2, done.stderr
