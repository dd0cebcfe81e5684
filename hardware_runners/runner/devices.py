"""The inventory: one YAML file per device, typed, and the plan that says which device measures which variant."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from edge.errors import UserError
from edge.inference.runtimes import RUNS
from hardware_runners.runner.energy import SOURCES
from hardware_runners.runner.errors import RunnerError
from stages.common import yamlfile
from stages.common.textfile import printable, short

PLAN = Path("hardware_runners/plan.yaml")
INVENTORY = Path("hardware_runners/inventory")
NAME = r"^[a-z0-9][a-z0-9-]{0,99}$"
# every number and text has limits on both sides; upper ones that mean nothing else are choices
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Window = Annotated[float, Field(ge=1, le=3600)]  # seconds
Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(printable)]
Column = Annotated[int, Field(ge=-1000, le=1000)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Amount = Field(ge=-(2**63), le=2**63)
Fact = Annotated[int, Amount] | Annotated[float, Amount] | Annotated[str, Field(max_length=1000)]
Folder = Annotated[str, Field(max_length=1000)]
Label = Annotated[str, Field(max_length=100), AfterValidator(printable)]


def one_of(*names: str) -> AfterValidator:
    """The check of a name that a table holds."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return AfterValidator(check)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Address(Section):
    """`host` is an alias of ~/.ssh/config or a name or address; keys and known_hosts stay in ~/.ssh."""

    host: Annotated[str, Field(pattern=r"^[^\s@-][^\s@]*$", max_length=253), AfterValidator(printable)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Label | None = None


class Energy(Section):
    """Where energy figures come from; `window_s` and `idle_s` are the lengths of the two measured windows."""

    source: Annotated[str, one_of("none", *SOURCES, "meter", "estimate")]
    reason: Text | None = None
    window_s: Window = 10.0
    idle_s: Window = 10.0
    rate_hz: Annotated[float, Field(ge=0.01, le=1000)] = 10.0
    label: Label | None = None  # jetson: the rail; ina2xx: the hwmon folder's name
    file: Text | None = None  # meter: a CSV file that its program writes
    port: Text | None = None  # meter: a serial port that prints lines
    baud: Annotated[int, Field(ge=50, le=4_000_000)] = 115200  # what termios knows
    columns: dict[Literal["time", "power", "voltage", "current"], Column | Label] | None = None
    clock: Literal["epoch", "own"] = "epoch"  # meter: seconds since 1970, or since it was switched on
    scope: Label | None = None  # meter: what it measures, e.g. wall or 5 V rail

    @model_validator(mode="after")
    def complete(self) -> Energy:
        if self.source == "meter" and (self.file is None) == (self.port is None):
            raise ValueError("source: meter needs either file or port")
        return self


class Limits(Section):
    """Seconds to wait: for a connection, for a device that another run holds, for one whole measurement; and how
    long the device goes on without a sign of life from here."""

    connect_s: Seconds = 10.0
    lock_wait_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    run_s: Seconds = 900.0
    heartbeat_s: Seconds = 3.0


class Device(Section):
    """One inventory file."""

    name: Annotated[str, Field(pattern=NAME)]
    transport: Literal["local", "ssh"]
    notes: Annotated[str, Field(max_length=10_000)] | None = None
    tags: Annotated[list[Label], Field(max_length=100)] = []
    ssh: Address | None = None
    python: Text | None = None  # ssh: the interpreter on the device
    folder: Folder = ".cache/edge-vision"  # ssh: where code and models go, relative to the home there
    lock: Annotated[str, Field(pattern=NAME, max_length=64)] = (
        "device"  # devices that share one machine need different names
    )
    runtime: Annotated[list[Annotated[str, one_of(*RUNS)]], Field(max_length=100)] = []
    threads: Annotated[list[Threads], Field(max_length=64)] | None = None  # instead of benchmark.threads
    may_change: Annotated[list[Literal["governor"]], Field(max_length=1)] = []
    emulated: bool = False  # figures of time are marked and never plotted as latency
    limits: Limits = Limits()
    energy: Energy = Energy(source="none")
    fingerprint: Annotated[dict[Label, Fact | None], Field(max_length=100)] | None = None

    @field_validator("folder")
    @classmethod
    def of_its_own(cls, value: str) -> str:
        if not value.isprintable() or os.path.normpath(value) in ("", ".", "..", "~", "/", "//"):
            raise ValueError("must be a folder for this alone: what is old is removed in it")
        return value

    @model_validator(mode="after")
    def reachable(self) -> Device:
        if self.transport == "ssh" and (self.ssh is None or self.python is None):
            raise ValueError("transport: ssh needs ssh.host and python")
        return self

    @property
    def address(self) -> Address:
        """Where it is: without `ssh`, here."""
        return self.ssh or Address(host="localhost")

    @property
    def interpreter(self) -> str:
        return self.python or "python3"


def read(name: str) -> Device:
    """The inventory file of a device; RunnerError names the key that is wrong."""
    path = INVENTORY / f"{name}.yaml"
    if not is_name(name) or not path.is_file():
        known = ", ".join(names()) or "none: the inventory is empty"
        raise RunnerError(f"{path}: no such device; choose one of {known}")
    device = check(read_yaml(path), path)
    if device.name != name:
        raise RunnerError(f"{path}: name = {device.name!r}: must be {name!r}, like the file")
    return device


def check(tree: object, where: str | Path) -> Device:
    """The typed content of an inventory file; RunnerError names each wrong key, its value and what is allowed."""
    try:
        return yamlfile.check(Device, tree, f"{where}:")
    except UserError as error:
        raise RunnerError(str(error)) from None


def names() -> list[str]:
    """The devices of the inventory."""
    return sorted(path.stem for path in INVENTORY.glob("*.yaml"))


def plan() -> dict[str, dict[str, str]]:
    """The plan: item -> {device, variant}; RunnerError when an entry is no such pair or holds what is no name."""
    tree = read_yaml(PLAN)
    entries = (tree.get("plan") if isinstance(tree, dict) else None) or {}
    if not isinstance(entries, dict):
        raise RunnerError(f"{PLAN}: plan: must map items to devices and variants")
    for item, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"device", "variant"}:
            what = f"plan.{short(repr(item))} = {short(repr(entry))}"
            raise RunnerError(f"{PLAN}: {what}: must have the keys device and variant and no others")
        for name in (item, *entry.values()):
            check_name(name, f"{PLAN}: plan.{short(repr(item))}")
    return entries


def is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def check_name(value: object, where: str) -> None:
    """RunnerError unless it is a name: DVC makes paths of it, which it deletes before a stage runs."""
    if not is_name(value):
        raise RunnerError(
            f"{where}: {short(repr(value))} is not a name: small letters, digits and dashes only, 100 at most"
        )


def check_runtime(device: Device, format: str) -> None:
    """RunnerError when none of the runtimes that the inventory file lists runs models of this format."""
    if device.runtime and not any(format in RUNS[name] for name in device.runtime):
        raise RunnerError(
            f"{INVENTORY / device.name}.yaml: runtime = {device.runtime}: none of them runs a {format} model; "
            f"take it out of {PLAN} or install one"
        )


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; RunnerError when it is missing or broken."""
    try:
        return yamlfile.read_yaml(path)
    except UserError as error:
        raise RunnerError(str(error)) from None
