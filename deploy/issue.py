"""Makes the certificates of a site: `python -m deploy.issue authority|server|device FOLDER …`.

    authority FOLDER              ca.pem and ca.key, which stays with you; and `monitor`, for the broker's health check
    server FOLDER NAME [NAME …]   broker/: ca.pem, certificate.pem, certificate.key for these names and addresses, and
                                  for `broker` and `localhost`, as compose.yaml calls it
    device FOLDER NAME            NAME/: the same for one device, whose name is also its user at the broker

Keys have mode 0600. Nothing is ever overwritten: move a folder away to issue anew."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import os
import re
import shutil
import sys
from pathlib import Path

from edge.address import check_host
from edge.errors import UserError, reason
from edge.link.extra import needed

YEARS = 10  # of the authority
DAYS = 825  # of what it issues: the most that browsers and phones take
MOST_DAYS = 3650
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # nothing that means more in a topic or an access list
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*")
COMPOSE = ("broker", "localhost")  # names of the broker in compose.yaml: of the watcher and of the health check
TAKEN = ("broker", "monitor", "server")  # users with rights of their own in deploy/acl


def main(argv: list[str] | None = None) -> int:
    """One line on stderr and 1 for what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.issue", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("authority", "make the authority that everything else must be known to"),
        ("server", "issue the broker's certificate for the names and addresses that devices connect to"),
        ("device", "issue a device's certificate: or that of `server`, which reads all events"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("folder", type=Path, help="where the authority is, e.g. deploy/secrets")
        if name != "authority":
            sub.add_argument("names", nargs="+" if name == "server" else 1, metavar="NAME")
            sub.add_argument("--days", type=int, default=DAYS, help=f"how long it is valid ({DAYS})")
    given = parser.parse_args(argv)
    try:
        if given.command == "authority":
            authority(given.folder)
        elif not 1 <= given.days <= MOST_DAYS:
            raise UserError(f"--days {given.days}: must be from 1 to {MOST_DAYS}")
        elif given.command == "server":
            server(given.folder, given.names, given.days)
        else:
            device(given.folder, given.names[0], given.days)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or given.folder}: {error.strerror or reason(error)}", file=sys.stderr)
        return 1
    return 0


def authority(folder: Path) -> None:
    """A new authority in the folder, and the certificate of the health check."""
    for name in ("ca.pem", "ca.key"):
        if os.path.lexists(folder / name):
            raise UserError(f"{folder / name}: is there; a new authority would make every certificate worthless")
    x509, ec = needed("cryptography.x509"), needed("cryptography.hazmat.primitives.asymmetric.ec")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = _usage(key_cert_sign=True, crl_sign=True)
    more = [(x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)]
    made = _signed("Edge Vision site", key.public_key(), "Edge Vision site", key, more, 365 * YEARS)
    _write(folder / "ca.key", _private(key), 0o600)
    _write(folder / "ca.pem", made, 0o644)
    _issue(folder, "monitor", "monitor", [], DAYS)


def server(folder: Path, names: list[str], days: int = DAYS) -> None:
    """The broker's certificate for the names and addresses."""
    hosts = [_host(name) for name in dict.fromkeys((*names, *COMPOSE))]
    _issue(folder, "broker", names[0][:64], hosts, days)


def device(folder: Path, name: str, days: int = DAYS) -> None:
    """The certificate of a device, or that of the user `server`."""
    if not DEVICE.fullmatch(name) or (name in TAKEN and name != "server"):
        taken = ", ".join(one for one in TAKEN if one != "server")
        raise UserError(
            f"{name!r}: a device's name has letters, digits, '.', '_' and '-', 64 at most, and is not {taken}"
        )
    _issue(folder, name, name, [], days)


def _host(name: str) -> object:
    """A name or address as a certificate has it."""
    x509 = needed("cryptography.x509")
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    try:
        if not HOST.fullmatch(name):
            raise ValueError
        check_host(name)
    except ValueError:  # UnicodeError too
        raise UserError(f"{name!r}: neither a name of a host nor an address") from None
    return x509.DNSName(name)


def _issue(folder: Path, name: str, subject: str, hosts: list[object], days: int) -> None:
    """The folder `name`: a key, its certificate, the authority's. With `hosts` it is a server's, else a client's."""
    x509, ec = needed("cryptography.x509"), needed("cryptography.hazmat.primitives.asymmetric.ec")
    serialization = needed("cryptography.hazmat.primitives.serialization")
    try:
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not found; run python -m deploy.issue authority {folder} first") from None
    except (ValueError, TypeError):
        raise UserError(f"{folder}: ca.key or ca.pem is damaged; bring back your copy") from None
    target, part = folder / name, folder / f".{name}.{os.getpid()}"
    if os.path.lexists(target):
        raise UserError(f"{target}: is there; move it away to issue another")
    kind = x509.ExtendedKeyUsageOID.SERVER_AUTH if hosts else x509.ExtendedKeyUsageOID.CLIENT_AUTH
    more = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([kind]), False),
        (x509.SubjectAlternativeName(hosts or [x509.DNSName(subject)]), False),
    ]
    own = ec.generate_private_key(ec.SECP256R1())
    by = issuer.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    made = _signed(subject, own.public_key(), by, key, more, days)
    part.mkdir(mode=0o700)
    try:
        _write(part / "certificate.key", _private(own), 0o600)
        _write(part / "certificate.pem", made, 0o644)
        _write(part / "ca.pem", (folder / "ca.pem").read_bytes(), 0o644)
        os.rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{target}: certificate for {subject}, {days} days")


def _signed(
    subject: str, public: object, issuer: str, key: object, more: list[tuple[object, bool]], days: int
) -> bytes:
    """A certificate as PEM, with the identifiers of both keys."""
    x509, hashes = needed("cryptography.x509"), needed("cryptography.hazmat.primitives.hashes")
    serialization = needed("cryptography.hazmat.primitives.serialization")
    named = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (issuer, subject)]
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(*named, public, x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))  # clocks of devices
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    identifiers = (
        x509.SubjectKeyIdentifier.from_public_key(public),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),  # type: ignore[attr-defined]
    )
    for extension, critical in (*more, *((one, False) for one in identifiers)):
        builder = builder.add_extension(extension, critical=critical)
    made: bytes = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return made


def _usage(**true: bool) -> object:
    x509 = needed("cryptography.x509")
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    return x509.KeyUsage(**{**dict.fromkeys([*names.split(), "encipher_only", "decipher_only"], False), **true})


def _private(key: object) -> bytes:
    serialization = needed("cryptography.hazmat.primitives.serialization")
    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made: bytes = key.private_bytes(*how)  # type: ignore[attr-defined]
    return made


def _write(path: Path, content: bytes, mode: int) -> None:
    """A new file that has its mode from the start; an OSError where it is there."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)


if __name__ == "__main__":
    sys.exit(main())
