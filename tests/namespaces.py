"""Two network namespaces (evlink-...) and a cable between them (veth), which can be pulled and put back."""

from __future__ import annotations

import os
import subprocess

HERE, THERE = "10.87.99.1", "10.87.99.2"  # the device's side, the broker's


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Namespaces:
    """`device` and `broker` are names for `ip netns exec`; OSError or CalledProcessError where none can be made."""

    def __init__(self) -> None:
        mark = os.getpid() % 100000
        self.device, self.broker = f"evlink-d{mark}", f"evlink-b{mark}"
        self._near, self._far = f"evd{mark}", f"evb{mark}"
        try:
            for name in (self.device, self.broker):
                ip("netns", "add", name)
                ip("-n", name, "link", "set", "lo", "up")
            ip(
                "link",
                "add",
                self._near,
                "netns",
                self.device,
                "type",
                "veth",
                "peer",
                "name",
                self._far,
                "netns",
                self.broker,
            )
            for name, link, address in ((self.device, self._near, HERE), (self.broker, self._far, THERE)):
                ip("-n", name, "address", "add", f"{address}/30", "dev", link)
                ip("-n", name, "link", "set", link, "up")
        except BaseException:
            self.close()
            raise

    def inside(self, name: str, *command: object) -> list[str]:
        """The command, to be run in a namespace."""
        return ["ip", "netns", "exec", name, *map(str, command)]

    def pull(self) -> None:
        ip("-n", self.broker, "link", "set", self._far, "down")

    def plug(self) -> None:
        ip("-n", self.broker, "link", "set", self._far, "up")

    def close(self) -> None:
        for name in (self.device, self.broker):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
