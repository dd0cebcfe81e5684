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
from stages.common.textfile import reason, short

FOLDER = Path("data/downloads")
TIMEOUT = 30.0  # seconds without a byte; a lost first packet is sent again after 1, 3, 7 and 15 s (RFC 6298)
ATTEMPTS = 3  # connections in one run: a choice, since the next run goes on with what is there
PAUSE = 1.0  # seconds between them: a choice
BLOCK = 1 << 16  # bytes read at once, as shutil copies files
MIB = 1 << 20
MAX_BYTES = 64 << 30  # of one download: a choice; the archive of MVTec AD has 5
LONGEST = 200  # bytes of a file's name


NOT_HTTPS = (
    "not https, and without a list of hashes anyone on the way could change the data unseen; give an https address or "
    "data.hashes"
)


class Cut(Exception):
    """The connection ended before the file did."""


def fetch(url: str, name: str | None = None, *, listed: bool) -> Path:
    """Downloads `url` unless it is there already, and continues a partial file where the server can (RFC 9110, ranges).

    The file is called `name` (null: the end of the address), in a folder per address. listed: whether its content will
    be compared with known hashes; without them it must come over https. UserError when it can't be had.
    """
    parts = _parts(url)
    if parts.scheme != "https" and not listed:
        raise UserError(f"data.url = {short(masked(url))}: {NOT_HTTPS}")
    name = name or PurePosixPath(parts.path).name.lstrip(".") or "archive"
    name = name if len(name.encode()) <= LONGEST else name[-LONGEST // 4 :]
    target = FOLDER / hashlib.sha256(url.encode()).hexdigest()[:8] / name  # 32 bits tell the few addresses apart
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(url, part, listed)
            break
        except UserError:
            raise
        except ValueError as error:  # of an address that http.client can't send
            raise UserError(f"data.url = {short(masked(url))}: not an address ({reason(error)}); correct it") from None
        except (Cut, OSError, http.client.HTTPException) as error:
            _raise_if_final(url, error, part, last=attempt == ATTEMPTS)
            print(f"download {name}: {_reason(error)}; trying again", flush=True)
            time.sleep(PAUSE)
    part.replace(target)
    return target


def _parts(url: str) -> urllib.parse.SplitResult:
    """The parts of the address; UserError where it is none, or neither http nor https."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")  # ValueError where they can't be
    except ValueError as error:
        raise UserError(f"data.url = {short(masked(url))}: not an address ({reason(error)}); correct it") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = short(repr(masked(url)))
        raise UserError(f"data.url = {shown}: not an http(s) address; correct it, or set data.path to a local copy")
    return parts


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http where nothing else tells what should come."""

    def __init__(self, listed: bool):
        self.listed = listed

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith(("https://", "http://") if self.listed else "https://"):
            why = "not an http(s) address; correct data.url" if self.listed else NOT_HTTPS
            raise UserError(f"{short(masked(req.full_url))}: leads to {short(masked(newurl))}: {why}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, part: Path, listed: bool) -> None:
    """One connection: appends to `part` where the server answers with the rest, else starts it anew."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "edge-vision", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.build_opener(Redirects(listed)).open(request, timeout=TIMEOUT)
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
        total = None if response.length is None else start + response.length
        _check_size(url, part, total or 0)
        with open(part, "ab" if resumed else "wb") as out:
            label = f"download {part.stem} (MiB)"
            for done in track(_blocks(response, out, start, total), label, total and -(-total // MIB)):
                _check_size(url, part, done * MIB)
            if total is not None and out.tell() != total:
                raise Cut(f"the connection ended at {out.tell()} of {total} bytes")


def _blocks(response, out, start: int, total: int | None) -> Iterator[int]:
    """Copies the response; yields once per MiB that is reached, so that the steps are MiB."""
    yield from range(1, start // MIB + 1)
    done = start // MIB
    while out.tell() != total and (block := response.read1(BLOCK)):
        out.write(block)
        while (done + 1) * MIB <= out.tell():
            done += 1
            yield done
    if out.tell() > done * MIB:
        yield done + 1


def _check_size(url: str, part: Path, size: int) -> None:
    """UserError for more than anyone needs, which would fill the disk."""
    if size > MAX_BYTES:
        part.unlink(missing_ok=True)
        size_gib = MAX_BYTES >> 30
        raise UserError(f"{short(masked(url))}: more than {size_gib} GiB; correct data.url, or set data.path to a copy")


def _raise_if_final(url: str, error: Exception, part: Path, last: bool) -> None:
    """UserError where another try is of no use; a full disk passes as it is."""
    elsewhere = "set data.path to a local copy or data.url to another address"
    if isinstance(error, urllib.error.HTTPError) and error.code < 500:
        raise UserError(f"{short(masked(url))}: HTTP {error.code} {error.reason}; {elsewhere}") from None
    if isinstance(error, http.client.InvalidURL):
        raise UserError(f"{masked(f'{url}: {error}')}; correct data.url") from None
    on_disk = isinstance(error, OSError) and not isinstance(error, urllib.error.URLError) and error.filename is not None
    if on_disk or getattr(error, "errno", None) == errno.ENOSPC:
        raise error
    if last:
        kept = f"; {part.stat().st_size} bytes are kept in {part}, run again to go on" if part.exists() else ""
        raise UserError(f"{short(masked(url))}: {_reason(error)}{kept}; or {elsewhere}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return f"can't be downloaded: {cause or type(cause).__name__}; check the network"
