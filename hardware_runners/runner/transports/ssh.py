"""Measures on a device over SSH: strict host keys, no PTY, every wait with an end."""

from __future__ import annotations

import asyncio
import getpass
import json
import shlex
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh

from hardware_runners.runner import fingerprint
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError, Unavailable
from hardware_runners.runner.transports import bundle, jobs

KEEPALIVE_S, KEEPALIVE_COUNT = 1, 3
OLDEST = (3, 9)  # Python that edge and hardware_runners/runner/remote run on
BUSY, LOST = 75, 76  # exit codes of remote/supervise.py
SLACK_S = 15  # beyond the device's own limits, before it counts as lost
RECEIVE = bundle.ROOT / "hardware_runners/runner/remote/receive.py"


def measure(
    device: Device, model_folder: str | Path, runs: int, warmup: int, threads: list[int], holder: str
) -> dict[str, Any]:
    """What the commands of `jobs` printed on the device."""

    def commands(model: str) -> list[list[str]]:
        return jobs.commands(device.interpreter, device, model, runs, warmup, threads)

    found, results = asyncio.run(_run(device, [bundle.model(model_folder)], commands, holder))
    return {**jobs.merge(device, results), "clock_offset_s": found["clock_offset_s"]}


def score(device: Device, model_folder: str | Path, pictures: dict[str, bytes], holder: str) -> dict[str, Any]:
    """What remote.score says about the pictures on the device."""

    def commands(model: str, folder: str) -> list[list[str]]:
        return [jobs.score(device.interpreter, device, model, folder)]

    bundles = [bundle.model(model_folder), bundle.pictures(pictures)]
    return asyncio.run(_run(device, bundles, commands, holder))[1][0]


def probe(device: Device) -> dict[str, Any]:
    """What hardware_runners.runner.remote.probe finds on the device."""
    return asyncio.run(_probe(device))


async def _run(
    device: Device, bundles: list[bundle.Bundle], commands: Callable[..., list[list[str]]], holder: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the device said about itself, and what `commands` printed, a function of the folders of the bundles."""
    if device.fingerprint is None:
        raise RunnerError(
            f"device {device.name}: not enrolled; "
            f"run python -m hardware_runners enrol {device.name} {device.address.host}"
        )
    code = bundle.code()
    async with connect(device) as connection:
        home = await upload(device, connection, [code, *bundles])
        found = await _run_probe(device, connection, f"{home}/{code.name}")
        fingerprint.compare(device, found["fingerprint"])
        job = {
            "lock": device.lock,
            "state": f"{home}/state",
            "holder": f"{getpass.getuser()}@{socket.gethostname()} ({holder})",
            "lock_wait_s": device.limits.lock_wait_s,
            "limit_s": device.limits.run_s,
            "heartbeat_s": device.limits.heartbeat_s,
            "commands": commands(*(f"{home}/{b.name}" for b in bundles)),
            "governor": "governor" in device.may_change,
        }
        return found, await supervise(device, connection, f"{home}/{code.name}", job)


async def _probe(device: Device) -> dict[str, Any]:
    code = bundle.code()
    async with connect(device) as connection:
        home = await upload(device, connection, [code])
        return await _run_probe(device, connection, f"{home}/{code.name}")


@asynccontextmanager
async def connect(device: Device) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to the device; what goes wrong on it until it is closed becomes a RunnerError of one line.

    asyncssh checks the host key against ~/.ssh/known_hosts and adds none, whatever StrictHostKeyChecking says."""
    name, address, limits = device.name, device.address, device.limits
    given = {"port": address.port, "username": address.user}
    try:
        if _unchecked(address.host):
            raise RunnerError(
                f"device {name}: ~/.ssh/config switches the check of host keys off for {address.host} "
                "(UserKnownHostsFile none); remove that line"
            )
        async with asyncssh.connect(
            address.host,
            **{key: value for key, value in given.items() if value is not None},
            connect_timeout=limits.connect_s,
            login_timeout=limits.connect_s,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVE_COUNT,
        ) as connection:
            yield connection
    except asyncssh.HostKeyNotVerifiable as error:
        raise RunnerError(
            f"device {name}: host key not verified ({_one_line(error)}); connect once with ssh {address.host} and "
            "compare the key, or remove the old one with ssh-keygen -R if the device was set up anew"
        ) from None
    except (asyncssh.PermissionDenied, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise RunnerError(
            f"device {name}: login refused ({_one_line(error)}); copy your key there with ssh-copy-id {address.host}"
        ) from None
    except (asyncssh.ConnectionLost, asyncssh.ChannelOpenError) as error:
        raise Unavailable(f"device {name}: connection lost ({_one_line(error)})") from None
    except TimeoutError:
        raise Unavailable(f"device {name}: no answer within {limits.connect_s:g} s") from None
    except OSError as error:
        raise Unavailable(f"device {name}: unreachable ({error.strerror or _one_line(error)})") from None
    except (asyncssh.Error, asyncssh.ConfigParseError) as error:
        raise RunnerError(f"device {name}: {_one_line(error)}") from None


def _unchecked(host: str) -> bool:
    """Whether ~/.ssh/config has `UserKnownHostsFile none` for this host, which would switch the check off."""
    config = Path.home() / ".ssh" / "config"
    files = [str(config)] if config.is_file() else []
    return asyncssh.SSHClientConnectionOptions(host=host, config=files).known_hosts is None


async def upload(device: Device, connection: asyncssh.SSHClientConnection, bundles: list[bundle.Bundle]) -> str:
    """Brings the bundles that the device does not have yet; returns the absolute folder they are in."""
    command = shlex.join([device.interpreter, "-c", RECEIVE.read_text()])
    async with connection.create_process(f"exec {command}", encoding=None) as process:
        wanted = {"folder": device.folder, "names": [b.name for b in bundles]}
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        reply = await _answer(device, process)
        if reply["python"] < list(OLDEST):
            version, oldest = (".".join(map(str, found)) for found in (reply["python"], OLDEST))
            raise RunnerError(
                f"device {device.name}: {device.interpreter} is Python {version}: install {oldest} or newer there and "
                "name it as python in its inventory file"
            )
        missing = [b for b in bundles if b.name in reply["missing"]]
        if missing:
            process.stdin.write(bundle.pack(missing))
            process.stdin.write_eof()
            await _answer(device, process)
    home: str = reply["home"]
    return home


async def _answer(device: Device, process: asyncssh.SSHClientProcess[bytes]) -> dict[str, Any]:
    """The next line that remote/receive.py prints."""
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
    except TimeoutError:
        raise Unavailable(f"device {device.name}: lost while files went there (no answer for 60 s)") from None
    if not line:
        errors = (await process.stderr.read()).decode(errors="replace")
        await process.wait_closed()
        if process.exit_status is None:
            raise Unavailable(f"device {device.name}: connection lost while files went there")
        raise RunnerError(f"device {device.name}: can't receive files: {_last(errors, process.exit_status)}")
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        full = "; make room there and run it again" if reply["errno"] == 28 else ""
        raise RunnerError(f"device {device.name}: can't store files in {device.folder}: {reply['error']}{full}")
    return reply


async def _run_probe(device: Device, connection: asyncssh.SSHClientConnection, code: str) -> dict[str, Any]:
    """What the device is, and how far its clock is from ours, to within half of the time that the answer took."""
    words = [device.interpreter, "-m", "hardware_runners.runner.remote.probe"]
    command = f"cd {shlex.quote(code)} && exec {shlex.join(words)}"
    before = time.time()
    try:
        done = await asyncio.wait_for(connection.run(command), 60)
    except TimeoutError:
        raise Unavailable(f"device {device.name}: lost while it described itself (60 s)") from None
    if done.exit_status is None:
        raise Unavailable(f"device {device.name}: connection lost while it described itself")
    if done.exit_status:
        raise RunnerError(f"device {device.name}: can't describe itself: {_last(str(done.stderr), done.exit_status)}")
    found = json.loads(str(done.stdout))
    return {**found, "clock_offset_s": (before + time.time()) / 2 - found["time"]}


async def supervise(
    device: Device, connection: asyncssh.SSHClientConnection, code: str, job: dict[str, Any]
) -> list[dict[str, Any]]:
    """Runs a job under remote/supervise.py with signs of life from here; the list of what its commands printed."""
    command = shlex.join([device.interpreter, f"{code}/hardware_runners/runner/remote/supervise.py"])
    limit = job["lock_wait_s"] + job["limit_s"] + SLACK_S
    async with connection.create_process(f"cd {shlex.quote(code)} && exec {command}", encoding=None) as process:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        beat = asyncio.create_task(_beat(process, job["heartbeat_s"] / 3))
        try:
            out, errors = await asyncio.wait_for(
                asyncio.gather(process.stdout.read(), process.stderr.read()), timeout=limit
            )
            await process.wait_closed()
        except TimeoutError:
            raise Unavailable(f"device {device.name}: lost (no result after {limit:g} s)") from None
        finally:
            beat.cancel()
    errors = errors.decode(errors="replace")
    if process.exit_status is None and process.exit_signal is None:
        raise Unavailable(f"device {device.name}: connection lost during the measurement")
    if process.exit_status == BUSY:
        raise Unavailable(f"device {device.name}: {_last(errors, BUSY)}")
    if process.exit_status == LOST:
        raise Unavailable(f"device {device.name}: connection lost or device shut down during the measurement")
    if process.exit_signal:
        raise RunnerError(f"device {device.name}: the runner was killed there by signal {process.exit_signal[0]}")
    if process.exit_status:
        raise RunnerError(f"device {device.name}: {_last(errors, process.exit_status).removeprefix('error: ')}")
    results: list[dict[str, Any]] = json.loads(out)
    return results


async def _beat(process: asyncssh.SSHClientProcess[bytes], seconds: float) -> None:
    with suppress(OSError):  # the channel is closed: whoever reads from it notices
        while True:
            await asyncio.sleep(seconds)
            process.stdin.write(b".")


def _last(errors: str, code: int | None) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"ended with code {code}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
