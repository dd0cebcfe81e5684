"""The keys that messages are sealed with: a JSON Web Key Set (RFC 7517) in a file of mode 0600.

The first key seals, all of them open: who rotates puts the new key first, and takes the old one away when nothing
sealed with it is on its way any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edge.errors import UserError
from edge.inference.jsonfile import parsed
from edge.link.extra import needed
from edge.link.secretfile import read_secret

KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SIZE = 32  # bytes of every key here: AES-256, X25519
SALT = 32  # bytes
INFO = b"edge-vision seal 1 "  # of HKDF, and the key's id: the purpose that a derived key is bound to


class Key(Protocol):
    """What seals or opens one message. Its representation holds no secret."""

    kid: str
    algorithm: ClassVar[str]  # "alg" of JWE
    extra: ClassVar[str]  # what else stands in the header of a message

    def fresh(self) -> tuple[Any, bytes]:
        """The value of the extra field and the content key of a new message, both never used before."""

    def again(self, extra: Any) -> bytes:
        """The content key of a message with this value; ValueError where there is none."""


class SharedKey:
    """32 bytes that device and server share. Each message has a key of its own (HKDF, RFC 5869, of a fresh salt), so
    that no number of messages under one key is too many for the random nonces of GCM (SP 800-38D, 8.3)."""

    algorithm: ClassVar[str] = "dir"
    extra: ClassVar[str] = "salt"

    def __init__(self, kid: str, secret: bytes):
        self.kid, self._secret = kid, secret

    def __repr__(self) -> str:
        return f"SharedKey({self.kid})"

    def fresh(self) -> tuple[Any, bytes]:
        salt = os.urandom(SALT)
        return encoded(salt), self._derived(salt)

    def again(self, extra: Any) -> bytes:
        return self._derived(decoded(extra, SALT))

    def _derived(self, salt: bytes) -> bytes:
        hkdf, hashes = (
            needed("cryptography.hazmat.primitives.kdf.hkdf"),
            needed("cryptography.hazmat.primitives.hashes"),
        )
        key: bytes = hkdf.HKDF(hashes.SHA256(), SIZE, salt, INFO + self.kid.encode()).derive(self._secret)
        return key


class ServerKey:
    """The server's X25519 key (RFC 8037): its public half seals, and only its private half, which no device has, opens.
    ECDH-ES (RFC 7518, 4.6) with a new ephemeral key for each message."""

    algorithm: ClassVar[str] = "ECDH-ES"
    extra: ClassVar[str] = "epk"

    def __init__(self, kid: str, public: bytes, private: bytes | None = None):
        self.kid, self.private, self._public = kid, private is not None, public
        self._curve = needed("cryptography.hazmat.primitives.asymmetric.x25519")
        self._key = self._curve.X25519PrivateKey.from_private_bytes(private) if private is not None else None
        if self._key is not None and _public(self._key) != public:
            raise ValueError("d and x are no pair")

    def __repr__(self) -> str:
        return f"ServerKey({self.kid})"

    def fresh(self) -> tuple[Any, bytes]:
        own = self._curve.X25519PrivateKey.generate()
        agreed = own.exchange(self._curve.X25519PublicKey.from_public_bytes(self._public))
        return {"kty": "OKP", "crv": "X25519", "x": encoded(_public(own))}, _concat(agreed)

    def again(self, extra: Any) -> bytes:
        if self._key is None:
            raise ValueError("the private key is not here")
        if not isinstance(extra, dict) or {**extra, "x": ""} != {"kty": "OKP", "crv": "X25519", "x": ""}:
            raise ValueError("not an X25519 key")
        sender = self._curve.X25519PublicKey.from_public_bytes(decoded(extra["x"], SIZE))
        return _concat(self._key.exchange(sender))


def _public(key: Any) -> bytes:
    raw = needed("cryptography.hazmat.primitives.serialization")
    data: bytes = key.public_key().public_bytes(raw.Encoding.Raw, raw.PublicFormat.Raw)
    return data


def _concat(agreed: bytes) -> bytes:
    """The one round of the Concat KDF that 256 bits take (RFC 7518, 4.6.2), for A256GCM and nobody in particular."""
    party = (0).to_bytes(4, "big")
    name = len(b"A256GCM").to_bytes(4, "big") + b"A256GCM"
    return hashlib.sha256((1).to_bytes(4, "big") + agreed + name + party + party + (256).to_bytes(4, "big")).digest()


def encoded(data: bytes) -> str:
    """base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: Any, size: int | None = None) -> bytes:
    """The bytes; ValueError unless `text` is the one way to write them, and there are `size` of them."""
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    if encoded(data) != text:
        raise ValueError("not base64url")
    if size is not None and len(data) != size:
        raise ValueError(f"not {size} bytes")
    return data


def read_keys(path: str | Path) -> dict[str, Key]:
    """The keys of a file by their ids, in its order; UserError, which holds nothing of a key, for what is wrong."""
    found: Any = parsed(Path(path), read_secret(path))
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys:
        raise UserError(f'{path}: must be a JSON Web Key Set: {{"keys": [...]}} with at least one key')
    read: dict[str, Key] = {}
    for i, jwk in enumerate(keys):
        try:
            key = _key(jwk)
        except ValueError as error:
            if isinstance(error, UserError):  # a package is missing
                raise
            raise UserError(f"{path}: keys.{i}: {error}") from None
        if key.kid in read:
            raise UserError(f"{path}: keys.{i}: a second key with the id {key.kid}; ids must differ")
        read[key.kid] = key
    return read


def _key(jwk: Any) -> Key:
    if not isinstance(jwk, dict):
        raise ValueError("must be an object")
    kid, kind = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not KEY_ID.fullmatch(kid):
        raise ValueError("kid: must be 1 to 64 letters, digits, dots, dashes and underscores")
    if kind == "oct":
        return SharedKey(kid, _bytes(jwk, "k"))
    if kind == "OKP" and jwk.get("crv") == "X25519":
        return ServerKey(kid, _bytes(jwk, "x"), _bytes(jwk, "d") if "d" in jwk else None)
    raise ValueError("kty and crv: must be oct, or OKP with X25519")


def _bytes(jwk: dict[str, Any], name: str) -> bytes:
    try:
        return decoded(jwk.get(name), SIZE)
    except ValueError:
        raise ValueError(f"{name}: must be {SIZE} bytes in base64url") from None


def new_keys(kid: str, pair: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two new key sets, of the device and of the server: the same shared key, or the two halves of a pair."""
    if not KEY_ID.fullmatch(kid):
        raise UserError(f"{kid}: must be 1 to 64 letters, digits, dots, dashes and underscores")
    if not pair:
        shared = {"kty": "oct", "kid": kid, "k": encoded(os.urandom(SIZE))}
        return {"keys": [shared]}, {"keys": [shared]}
    secret = os.urandom(SIZE)
    curve = needed("cryptography.hazmat.primitives.asymmetric.x25519")
    public = _public(curve.X25519PrivateKey.from_private_bytes(secret))
    device = {"kty": "OKP", "crv": "X25519", "kid": kid, "x": encoded(public)}
    return {"keys": [device]}, {"keys": [{**device, "d": encoded(secret)}]}


def write_keys(path: str | Path, keys: dict[str, Any]) -> None:
    """A new file of mode 0600; UserError where one exists."""
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
            os.fchmod(stream.fileno(), 0o600)
            json.dump(keys, stream, indent=2)
            stream.write("\n")
    except FileExistsError:
        raise UserError(f"{path}: exists; give a new file, and put its key first in the old one") from None
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from None
