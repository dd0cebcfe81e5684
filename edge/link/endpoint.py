"""Where messages go: the address of a broker or server, and the TLS that proves both ends to each other."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge.address import check_host, masked
from edge.errors import UserError, reason
from edge.link.secretfile import read_secret

PORTS = {"mqtts": 8883, "mqtt": 1883, "https": 443, "http": 80}
ALLOWED = "mqtts://HOST[:PORT], mqtt://HOST[:PORT] or https://HOST[:PORT][/PATH]"
LONGEST = 1000  # characters


@dataclass(frozen=True)
class Endpoint:
    """A scheme of PORTS, a host, its port, and the path of an https address."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_mqtt(self) -> bool:
        return self.scheme.startswith("mqtt")

    @property
    def is_encrypted(self) -> bool:
        return self.scheme.endswith("s")

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, so that nobody else can listen."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def endpoint(address: str) -> Endpoint:
    """The parts of an address; UserError, without the passwords in it, for what is none."""
    shown = masked(address[:LONGEST])
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        check_host(host)
    except ValueError as error:  # UnicodeError too
        raise UserError(f"{shown}: not an address ({reason(error)}); must be {ALLOWED}") from None
    if len(address) > LONGEST or not address.isascii() or not address.isprintable() or " " in address:
        raise UserError(f"{shown}: not an address; must be ASCII without blanks, {LONGEST} characters at most")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UserError(f"{shown}: must hold no user or password; give user and password_file, or token_file")
    if parts.scheme not in PORTS or not host or port == 0:
        raise UserError(f"{shown}: must be {ALLOWED}")
    found = Endpoint(parts.scheme, host, port or PORTS[parts.scheme], parts.path.rstrip("/"))
    if parts.query or parts.fragment or (found.is_mqtt and found.path):
        raise UserError(f"{shown}: must be {ALLOWED}, and nothing after it")
    if parts.scheme == "http" and not found.is_local:
        raise UserError(f"{shown}: must be https: anybody on the way could read and answer http")
    return found


def tls(authority: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer that checks the server's certificate and name against `authority` (a PEM file; None: those that
    the system trusts) and shows the client certificate, if there is one; UserError for files that can't be used."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise UserError(f"{authority}: no certificate of an authority (PEM): {reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None:
        return context
    read_secret(key or certificate)  # it may be in the same file
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # an encrypted key fails instead of asking
    except (OSError, ValueError) as error:
        why = f"no certificate with its unencrypted key (PEM): {reason(error)}"
        raise UserError(f"{certificate}, {key or certificate}: {why}") from None
    return context
