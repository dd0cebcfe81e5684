"""Measures on a device over SSH: strict host keys, no PTY, every wait with an end."""

from __future__ import annotations

import asyncio
import errno
import getpass
import json
import shlex
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import asyncssh

from hardware_runners.runner import fingerprint
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError, Unavailable
from hardware_runners.runner.transports import bundle, jobs, replies

KEEPALIVE_S, KEEPALIVE_COUNT = 1, 3
OLDEST = (3, 9)  # Python that edge and hardware_runners/runner/remote run on
BUSY, LOST = 75, 76  # exit codes of remote/supervise.py
STALL_S = 60  # for one answer
LONGEST = 65536  # bytes of errors that are read
SLACK_S = 15  # beyond the device's own limits, before it counts as lost
BLOCK: dict[str, type] = {"threads": int, "init_ms": float, "warmup_ms": dict, "latency_ms": dict, "predict_ms": dict}
RECEIVE = bundle.ROOT / "hardware_runners/runner/remote/receive.py"


def measure(
    device: Device, model_folder: str | Path, runs: int, warmup: int, threads: list[int], holder: str
) -> dict[str, Any]:
    """What the commands of `jobs` printed on the device."""

    def commands(model: str) -> list[list[str]]:
        return jobs.commands(device.interpreter, device, model, runs, warmup, threads)

    found, results = asyncio.run(_run(device, [bundle.model(model_folder)], commands, holder))
    for result in results[: len(device.threads or threads)]:
        replies.shaped(device.name, result, sha256=str, machine=dict, runtime=dict, blocks=list)
        for block in result["blocks"]:
            replies.shaped(device.name, block, **BLOCK)
    return {**jobs.merge(device, results), "clock_offset_s": found["clock_offset_s"]}


def score(
    device: Device,
    model_folder: str | Path,
    pictures: dict[str, bytes],
    holder: str,
    kernels: str | None = None,
    maps: bool = False,
) -> dict[str, Any]:
    """What remote.score says about the pictures on the device."""

    def commands(model: str, folder: str) -> list[list[str]]:
        return [jobs.score(device.interpreter, device, model, folder, kernels, maps)]

    bundles = [bundle.model(model_folder), bundle.pictures(pictures)]
    found = asyncio.run(_run(device, bundles, commands, holder))[1][0]
    kinds = {"scores": dict, "threshold": float, "runtime": dict} | ({"maps": dict} if maps else {})
    return replies.shaped(device.name, found, **kinds)


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
        async with await _open(
            device,
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


async def _open(device: Device, **options: Any) -> asyncssh.SSHClientConnection:
    """The connection; RunnerError for what ~/.ssh makes impossible, which names the file where there is one."""
    name, host = device.name, device.address.host
    try:
        if _unchecked(host):
            raise RunnerError(
                f"device {name}: ~/.ssh/config switches the check of host keys off for {host} "
                "(UserKnownHostsFile none); remove that line"
            )
        return await asyncssh.connect(host, **options)
    except RecursionError:
        raise RunnerError(
            f"device {name}: ~/.ssh/config: an Include or a ProxyJump for {host} leads back to itself; remove it"
        ) from None
    except ValueError as error:
        raise RunnerError(
            f"device {name}: ~/.ssh/config or ~/.ssh/known_hosts has a line that can't be read ({_one_line(error)}); "
            "correct or remove it"
        ) from None
    except OSError as error:
        if not error.filename:
            raise
        raise RunnerError(
            f"device {name}: {error.filename}: {error.strerror}; ~/.ssh/config names it for {host} "
            "(IdentityFile, ProxyCommand, ...)"
        ) from None


def _unchecked(host: str) -> bool:
    """Whether ~/.ssh/config has `UserKnownHostsFile none` for this host, which would switch the check off."""
    config = Path.home() / ".ssh" / "config"
    files = [str(config)] if config.is_file() else []
    options = asyncssh.SSHClientConnectionOptions(host=host, config=files)
    jumps = options.tunnel.split(",") if isinstance(options.tunnel, str) else []
    if host in [jump.rpartition("@")[2].partition(":")[0] for jump in jumps]:
        raise RecursionError  # asyncssh would jump until its time is up
    return options.known_hosts is None


Channel = asyncssh.SSHClientProcess[bytes]
T = TypeVar("T")


async def _talk(
    device: Device,
    connection: asyncssh.SSHClientConnection,
    command: str,
    seconds: float,
    doing: str,
    talk: Callable[[Channel, replies.Replies], Awaitable[T]],
) -> T:
    """What `talk` makes of a command there, which it gets with its answers. After any failure the connection is cut: a
    stopped process there never closes its channel, and a polite end would wait for that."""
    process = None
    try:
        async with asyncio.timeout(seconds):
            process = await connection.create_process(command, encoding=None)
            result = await talk(process, replies.Replies(device.name, process.stdout))
        process.close()
        return result
    except TimeoutError:
        connection.abort()
        raise Unavailable(f"device {device.name}: lost while {doing} (no answer for {seconds:g} s)") from None
    except BaseException:  # KeyboardInterrupt and its cancellation, too
        connection.abort()
        raise


def _send(process: Channel, content: bytes) -> None:
    with suppress(OSError):  # it has ended: whoever reads from it says why
        process.stdin.write(content)


async def _errors(process: Channel) -> str:
    """What the command there wrote to stderr, of very much the beginning."""
    found = b""
    while len(found) < LONGEST and (chunk := await process.stderr.read(LONGEST)):
        found += chunk
    return found.decode(errors="replace")


async def _ended(device: Device, process: Channel, answers: replies.Replies, doing: str) -> NoReturn:
    """Why a command there has given no answer; what it said is the last line of its errors, else of its output."""
    errors = await _errors(process)
    await process.wait_closed()
    if process.exit_status is None and process.exit_signal is None:
        raise Unavailable(f"device {device.name}: connection lost while {doing}")
    said = errors.strip() or answers.noise.decode(errors="replace").strip()
    why = _last(said, process.exit_status)
    raise RunnerError(
        f"device {device.name}: no answer while {doing}: {why}; the account there must run commands over ssh "
        f"(try: ssh {device.address.host} {device.interpreter} --version)"
    )


async def upload(device: Device, connection: asyncssh.SSHClientConnection, bundles: list[bundle.Bundle]) -> str:
    """Brings the bundles that the device does not have yet; returns the absolute folder they are in."""
    doing = "files went there"

    async def answer(process: Channel, answers: replies.Replies) -> object:
        async with asyncio.timeout(STALL_S):
            reply = await answers.next()
        if reply is None:
            await _ended(device, process, answers, doing)
        if isinstance(reply, dict) and "error" in reply:
            full = "; make room there and run it again" if reply.get("errno") == errno.ENOSPC else ""
            raise RunnerError(
                f"device {device.name}: can't store files in {device.folder}: {_last(str(reply['error']), 1)}{full}"
            )
        return reply

    async def talk(process: Channel, answers: replies.Replies) -> str:
        wanted = {"folder": device.folder, "names": [b.name for b in bundles]}
        _send(process, json.dumps(wanted).encode() + b"\n")
        kinds = {"missing": list, "home": str, "python": list}
        reply = replies.shaped(device.name, await answer(process, answers), **kinds)
        if not reply["home"].isprintable() or not all(isinstance(part, int) for part in reply["python"]):
            raise RunnerError(f"device {device.name}: an unexpected answer: home or python makes no sense")
        if tuple(reply["python"]) < OLDEST:
            version, oldest = (".".join(map(str, found)) for found in (reply["python"], OLDEST))
            raise RunnerError(
                f"device {device.name}: {device.interpreter} is Python {version}: install {oldest} or newer there and "
                "name it as python in its inventory file"
            )
        missing = [b for b in bundles if b.name in reply["missing"]]
        if missing:
            _send(process, bundle.pack(missing))
            with suppress(OSError):
                process.stdin.write_eof()
            await answer(process, answers)
        home: str = reply["home"]
        return home

    command = shlex.join([device.interpreter, "-c", RECEIVE.read_text()])
    return await _talk(device, connection, f"exec {command}", 2 * STALL_S, doing, talk)


async def _run_probe(device: Device, connection: asyncssh.SSHClientConnection, code: str) -> dict[str, Any]:
    """What the device is, and how far its clock is from ours, to within half of the time that the answer took."""
    doing = "it described itself"
    words = [device.interpreter, "-m", "hardware_runners.runner.remote.probe"]

    async def talk(process: Channel, answers: replies.Replies) -> dict[str, Any]:
        before = time.time()
        reply = await answers.next()
        if reply is None:
            await _ended(device, process, answers, doing)
        kinds = {"machine": dict, "versions": dict, "delegates": dict, "energy": list, "fingerprint": dict}
        found = replies.shaped(device.name, reply, **kinds, free_mb=float, time=float)
        replies.shaped(device.name, found["machine"], python=str, architecture=str)
        return {**found, "clock_offset_s": (before + time.time()) / 2 - found["time"]}

    command = f"cd {shlex.quote(code)} && exec {shlex.join(words)}"
    return await _talk(device, connection, command, STALL_S, doing, talk)


async def supervise(
    device: Device, connection: asyncssh.SSHClientConnection, code: str, job: dict[str, Any]
) -> list[dict[str, Any]]:
    """Runs a job under remote/supervise.py with signs of life from here; the list of what its commands printed."""
    doing = "it measured"

    async def talk(process: Channel, answers: replies.Replies) -> list[dict[str, Any]]:
        _send(process, json.dumps(job).encode() + b"\n")
        beat = asyncio.create_task(_beat(process, job["heartbeat_s"] / 3))
        try:
            results = await answers.next()
            errors = await _errors(process)
            await process.wait_closed()
        finally:
            beat.cancel()
        code, name = process.exit_status, device.name
        if code is None and process.exit_signal is None:
            raise Unavailable(f"device {name}: connection lost during the measurement")
        if code == BUSY:
            raise Unavailable(f"device {name}: {_last(errors, BUSY)}")
        if code == LOST:
            raise Unavailable(f"device {name}: connection lost or device shut down during the measurement")
        if process.exit_signal:
            raise RunnerError(f"device {name}: the runner was killed there by signal {process.exit_signal[0]}")
        if code:
            raise RunnerError(f"device {name}: {_last(errors, code).removeprefix('error: ')}")
        if results is None:
            await _ended(device, process, answers, doing)
        return replies.listed(name, results, len(job["commands"]))

    command = shlex.join([device.interpreter, f"{code}/hardware_runners/runner/remote/supervise.py"])
    limit = job["lock_wait_s"] + job["limit_s"] + SLACK_S
    return await _talk(device, connection, f"cd {shlex.quote(code)} && exec {command}", limit, doing, talk)


async def _beat(process: asyncssh.SSHClientProcess[bytes], seconds: float) -> None:
    with suppress(OSError):  # the channel is closed: whoever reads from it notices
        while True:
            await asyncio.sleep(seconds)
            process.stdin.write(b".")


def _last(errors: str, code: int | None) -> str:
    lines = errors.strip().splitlines() or [f"ended with code {code}"]
    return "".join(letter for letter in lines[-1] if letter.isprintable())[:300]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
