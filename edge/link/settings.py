"""The section `link` of a site: checked as a whole when it is read, and made into a sender."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.link import mqtt
from edge.link.endpoint import Endpoint, endpoint, tls
from edge.link.https import HttpsSender
from edge.link.outbox import MOST_BYTES, MOST_MESSAGES
from edge.link.secretfile import read_line
from edge.link.sender import Sender

LEAST_MB = 8  # of an outbox: more than any message has
PREFIX = re.compile(r"[^$/+#\x00][^+#\x00]{0,199}")  # a topic without wildcards, and none of the broker's own ($SYS)
DEFAULTS: dict[str, Any] = {
    "outbox": "outbox.db",
    "most_messages": MOST_MESSAGES,
    "most_mb": MOST_BYTES >> 20,
    "clips": False,
    "user": None,
    "password_file": None,
    "token_file": None,
    "authority": None,
    "certificate": None,
    "certificate_key": None,
    "protocol": "5",
    "prefix": None,
    "home_assistant": False,
}
ONLY = {"mqtt": ("user", "password_file", "prefix", "home_assistant"), "http": ("token_file",)}  # by the address


@dataclass(frozen=True)
class Settings:
    """Where a device's messages go. Files are relative to the site's own folder; secrets are named, not held."""

    device: str
    endpoint: Endpoint
    keys: Path
    outbox: Path
    most_messages: int
    most_bytes: int
    clips: bool
    user: str | None
    password_file: Path | None
    token_file: Path | None
    authority: Path | None
    certificate: Path | None
    certificate_key: Path | None
    protocol: str
    prefix: str
    home_assistant: bool

    def sender(self, heard: Callable[[str, bytes], None] | None = None) -> Sender:
        """The sender for the address; reads the files that it needs, UserError where they can't be used. `heard` gets
        what comes in by MQTT."""
        to = self.endpoint
        context = tls(self.authority, self.certificate, self.certificate_key) if to.is_encrypted else None
        if not to.is_mqtt:
            return HttpsSender(to, context, read_line(self.token_file) if self.token_file else None)
        password = read_line(self.password_file) if self.password_file else None
        broker = (to, self.device, self.prefix, self.protocol, context, self.user, password, self.home_assistant)
        return mqtt.MqttSender(mqtt.Settings(*broker), heard)


def parse(fields: Fields, device: str) -> Settings:
    """The settings of the object `link`, for the device of this name; UserError names the first field that is wrong."""
    given, fields.values = set(fields.values), {**DEFAULTS, **fields.values}
    try:
        to = endpoint(fields.text("address"))
    except UserError as error:
        if str(error).startswith(f"{fields.path}: "):  # no text
            raise
        raise UserError(f"{fields.path}: {fields.prefix}address = {error}") from None
    for key in ONLY["http" if to.is_mqtt else "mqtt"]:
        if key in given and fields.values[key]:
            raise fields.error(key, f"left out: {to.scheme} has no such thing")
    found = Settings(
        device=device,
        endpoint=to,
        keys=_file(fields, "keys"),
        outbox=_file(fields, "outbox"),
        most_messages=fields.whole("most_messages", 2, 1_000_000),
        most_bytes=fields.whole("most_mb", LEAST_MB, 1 << 20) << 20,
        clips=fields.choice("clips", False, True),
        user=fields.text_or_null("user"),
        password_file=_file_or_null(fields, "password_file"),
        token_file=_file_or_null(fields, "token_file"),
        authority=_file_or_null(fields, "authority"),
        certificate=_file_or_null(fields, "certificate"),
        certificate_key=_file_or_null(fields, "certificate_key"),
        protocol=fields.choice("protocol", *mqtt.PROTOCOLS),
        prefix=_prefix(fields, device),
        home_assistant=fields.choice("home_assistant", False, True),
    )
    _check(fields, found)
    return found


def _check(fields: Fields, found: Settings) -> None:
    """UserError for settings that contradict each other."""
    to = found.endpoint
    if found.password_file and not found.user:
        raise fields.error("user", "the user whose password is in password_file")
    if found.certificate_key and not found.certificate:
        raise fields.error("certificate", "the file of the certificate that certificate_key belongs to")
    for key in ("authority", "certificate"):
        if fields.values[key] and not to.is_encrypted:
            raise fields.error(key, f"left out: {to.scheme} has no TLS; give {to.scheme}s")
    secret = "password_file" if to.is_mqtt else "token_file"
    if fields.values[secret] and not (to.is_encrypted or to.is_local):
        raise fields.error(secret, f"left out: anybody on the way could read it; give {to.scheme}s")


def _prefix(fields: Fields, device: str) -> str:
    if fields.get("prefix") is None:
        return f"edge-vision/{quote(device, safe='')}"
    prefix = fields.text("prefix")
    if not PREFIX.fullmatch(prefix) or not prefix.isprintable() or prefix.endswith("/"):
        raise fields.error("prefix", "a topic of at most 200 characters without + and #, and no / or $ at its ends")
    return prefix


def _file(fields: Fields, key: str) -> Path:
    name = fields.text(key)
    if "\0" in name:
        raise fields.error(key, "the name of a file")
    return fields.path.parent / name


def _file_or_null(fields: Fields, key: str) -> Path | None:
    return None if fields.get(key) is None else _file(fields, key)
