"""Downloads that the next run continues: DVC deletes the outputs of a stage before a run, so they aren't among them."""

import errno
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edge.address import masked
from edge.errors import UserError
from stages.common.progress import track

FOLDER = Path("data/downloads")
TIMEOUT = 30.0  # seconds without a byte; a lost first packet is sent again after 1, 3, 7 and 15 s (RFC 6298)
ATTEMPTS = 3  # connections in one run: a choice, since the next run goes on with what is there
PAUSE = 1.0  # seconds between them: a choice
BLOCK = 1 << 16  # bytes read at once, as shutil copies files
MIB = 1 << 20


class Cut(Exception):
    """The connection ended before the file did."""


def fetch(url: str, name: str | None = None) -> Path:
    """Downloads `url` unless it is there already, and continues a partial file where the server can (RFC 9110, ranges).

    The file is called `name` (null: the end of the address), in a folder per address. UserError when it can't be had.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"data.url = {masked(url)!r}: not an http(s) address; correct it, or set data.path to a local copy"
        )
    name = name or PurePosixPath(urllib.parse.urlsplit(url).path).name.lstrip(".") or "archive"
    target = FOLDER / hashlib.sha256(url.encode()).hexdigest()[:8] / name  # 32 bits tell the few addresses apart
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(url, part)
            break
        except (Cut, OSError, http.client.HTTPException) as error:
            _raise_if_final(url, error, part, last=attempt == ATTEMPTS)
            print(f"download {name}: {_reason(error)}; trying again", flush=True)
            time.sleep(PAUSE)
    part.replace(target)
    return target


def _receive(url: str, part: Path) -> None:
    """One connection: appends to `part` where the server answers with the rest, else starts it anew."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "edge-vision", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the partial file was whole
        part.unlink()
        raise Cut("the server refuses to go on with the partial file, which was removed") from None
    with response:
        resumed = re.match(rf"bytes {have}-", response.headers.get("Content-Range") or "") is not None
        if response.status == 206 and not resumed:
            part.unlink()
            raise Cut("the server sent another range than asked for, the partial file was removed")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with open(part, "ab" if resumed else "wb") as out:
            label = f"download {part.stem} (MiB)"
            for _ in track(_blocks(response, out, start, total), label, total and -(-total // MIB)):
                pass
            if total is not None and out.tell() != total:
                raise Cut(f"the connection ended at {out.tell()} of {total} bytes")


def _blocks(response, out, start: int, total: int | None) -> Iterator[int]:
    """Copies the response; yields once per MiB that is reached, so that the steps are MiB."""
    yield from range(start // MIB)
    done = start // MIB
    while out.tell() != total and (block := response.read1(BLOCK)):
        out.write(block)
        while (done + 1) * MIB <= out.tell():
            done += 1
            yield done
    if out.tell() > done * MIB:
        yield done + 1


def _raise_if_final(url: str, error: Exception, part: Path, last: bool) -> None:
    """UserError where another try is of no use; a full disk passes as it is."""
    elsewhere = "set data.path to a local copy or data.url to another address"
    if isinstance(error, urllib.error.HTTPError) and error.code < 500:
        raise UserError(f"{masked(url)}: HTTP {error.code} {error.reason}; {elsewhere}") from None
    if isinstance(error, http.client.InvalidURL):
        raise UserError(f"{masked(f'{url}: {error}')}; correct data.url") from None
    on_disk = isinstance(error, OSError) and not isinstance(error, urllib.error.URLError) and error.filename is not None
    if on_disk or getattr(error, "errno", None) == errno.ENOSPC:
        raise error
    if last:
        kept = f"; {part.stat().st_size} bytes are kept in {part}, run again to go on" if part.exists() else ""
        raise UserError(f"{masked(url)}: {_reason(error)}{kept}; or {elsewhere}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return f"can't be downloaded: {cause or type(cause).__name__}; check the network"
