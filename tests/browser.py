"""A headless Chromium driven over a pipe by the DevTools protocol: pages offline, at any width, with what they log.

https://chromedevtools.github.io/devtools-protocol
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
FLAGS += ("--remote-debugging-pipe", "--no-first-run", "--disable-background-networking")


def find() -> str | None:
    """The browser on this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page; `logged` is what it wrote to the console or failed to load, `requests` what it asked for."""

    def __init__(self, binary: str):
        self.logged: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(theirs[0], 3)  # where the browser reads
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={self._profile.name}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,  # of 3 and 4; no other descriptor is inherited
            preexec_fn=place,
        )
        for end in (theirs_in, theirs_out, *theirs):
            os.close(end)
        self._number, self._rest, self._session = 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._out)  # it ends when nobody is there
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict:
        """The result of a command; RuntimeError when the browser refuses it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._see(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, path: Path, width: int, height: int = 800) -> None:
        """Loads a file in a window so wide, until all of it is there."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while (event := self._next()).get("method") != "Page.loadEventFired":
            self._see(event)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript on the page, awaited."""
        how = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            block = os.read(self._in, 1 << 20)
            if not block:
                raise RuntimeError("the browser ended")
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _see(self, event: dict) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.logged.append(f"{found['type']}: {[one.get('value') for one in found['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.logged.append(found["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.logged.append(f"{found['entry']['level']}: {found['entry']['text']}")
        elif method == "Network.loadingFailed":
            self.logged.append(f"failed: {found['errorText']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
