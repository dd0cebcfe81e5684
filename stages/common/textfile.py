"""Text that users write: files, which must be regular ones of a limited size, and what a message shows of a value."""

import os
import stat
import unicodedata
from io import BufferedReader
from pathlib import Path

from edge.errors import UserError

MIB = 1 << 20
CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode: control characters, lone surrogates, separators of lines


def open_regular(path: str | Path, advice: str) -> BufferedReader:
    """The file, open for reading; UserError, which ends in `advice`, where there is none or where it is a folder, a
    pipe or a device, which would be read for ever."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise UserError(f"{short(path)}: can't be read: {reason(error)}; {advice}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(f"{short(path)}: not a regular file; {advice}")
    return open(number, "rb")


def read_text(path: str | Path, advice: str, most: int = MIB) -> str:
    """The content, which is UTF-8 and no longer than `most` bytes; else UserError, which ends in `advice`."""
    with open_regular(path, advice) as stream:
        try:
            content = stream.read(most + 1) or b""  # None where a file of /proc has nothing yet
        except OSError as error:
            raise UserError(f"{short(path)}: can't be read: {reason(error)}; {advice}") from None
    if len(content) > most:
        raise UserError(f"{short(path)}: larger than {most // MIB} MiB; {advice}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"line {line} holds the byte 0x{content[error.start]:02x}"
        raise UserError(f"{short(path)}: not UTF-8: {wrong}; save it as UTF-8") from None


def reason(error: Exception) -> str:
    """What the system says, without the path, which the message has already."""
    return getattr(error, "strerror", None) or str(error)


def short(value: object, most: int = 120) -> str:
    """The value as text, without its middle where it is longer than `most` characters."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def printable(text: str) -> str:
    """The check of a text that is shown in one line, or names a file."""
    if any(unicodedata.category(character) in CONTROL for character in text):
        raise ValueError("must hold no control characters, such as a line break")
    return text


def one_line(message: str) -> str:
    """The message with \\n for a line break, and the like for what else can't be shown."""
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if unicodedata.category(c) in CONTROL else c
        for c in message
    )
