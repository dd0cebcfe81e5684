"""Runs a Dockerfile's own steps in Debian roots that debootstrap made, where no container engine is."""

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass
class Stage:
    """One FROM and what follows it: (instruction, rest) in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def read(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM, and the stages."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, instructions.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name.strip()))
        elif not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stages[-1].steps.append((word, rest.strip()))
    return arguments, stages


class Builder:
    """Builds stages as folders: `base` is the root that stands for every image from outside."""

    def __init__(self, path: Path, context: Path, base: Path, work: Path, given: dict[str, str] | None = None):
        self.arguments, stages = read(path)
        self.stages = {stage.name: stage for stage in stages}
        self.context, self.base, self.work, self.given = context, base, work, given or {}
        self.environments: dict[str, dict[str, str]] = {}
        self.users: dict[str, str] = {}
        self.commands: dict[str, list[str]] = {}

    def build(self, name: str) -> Path:
        """The root of a stage, its steps run in a chroot with the variables that Docker would set."""
        stage, root = self.stages[name], self.work / name
        if root.exists():
            return root
        inherited = stage.base if stage.base in self.stages else None
        parent = self.build(inherited) if inherited else self.base
        subprocess.run(["cp", "-a", "--reflink=auto", parent, root], check=True)
        if not inherited:  # where this system takes its packages from
            for name in filter(os.path.isdir, ("/etc/apt", "/usr/share/keyrings")):
                shutil.copytree(name, root / name.lstrip("/"), dirs_exist_ok=True)
        environment = dict(self.environments.get(stage.base, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}))
        self.users[name] = self.users.get(stage.base, "root")
        self.commands[name] = self.commands.get(stage.base, [])
        arguments: dict[str, str] = {}
        for word, rest in stage.steps:
            known = {**arguments, **environment}
            if word == "ARG":
                key, _, value = rest.partition("=")
                if found := self.given.get(key, value):
                    arguments[key] = found
            elif word == "ENV":
                environment |= dict(pair.split("=", 1) for pair in shlex.split(fill(rest, known)))
            elif word == "RUN":
                self.run(root, {**arguments, **environment}, "/bin/sh", "-c", rest)
            elif word == "COPY":
                self.copy(root, shlex.split(fill(rest, known)))
            elif word == "WORKDIR":
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif word == "USER":
                self.users[name] = rest
            elif word == "ENTRYPOINT":
                self.commands[name] = json.loads(rest)
            elif word != "CMD":
                raise ValueError(f"{word}: not known here")
        self.environments[name] = environment
        return root

    def run(self, root: Path, environment: dict[str, str], *command: str, user: str = "root") -> str:
        """What a command prints in the root; it reaches the network as the system does, through pip's own settings."""
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        if Path(AUTHORITIES).is_file():  # those of this machine; ca-certificates may have written its own
            (root / AUTHORITIES.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(AUTHORITIES, root / AUTHORITIES.lstrip("/"))
        outside = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or "proxy" in key.lower()}
        line = ["chroot", *(["--userspec", user] if user != "root" else []), str(root), *command]
        done = subprocess.run(line, env={**outside, "HOME": "/tmp", **environment}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def copy(self, root: Path, words: list[str]) -> None:
        start = self.context
        if words[0].startswith("--from="):
            start = self.build(words.pop(0).partition("=")[2])
        *sources, target = words
        for source in sources:
            at, to = start / source.lstrip("/"), root / target.lstrip("/")
            if at.is_dir():
                shutil.copytree(at, to, symlinks=True, dirs_exist_ok=True)
            else:
                to = to / at.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(at, to)


def fill(text: str, values: dict[str, str]) -> str:
    return VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)
