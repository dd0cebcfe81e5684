"""Seals messages: JWE in compact form (RFC 7516) with A256GCM, whose header, with the key's id, is authenticated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import UserError, reason
from edge.inference.jsonfile import parsed
from edge.link.extra import needed
from edge.link.keys import Key, ServerKey, decoded, encoded

NONCE, TAG = 12, 16  # bytes
MOST_HEADER = 4096  # characters


class SealError(UserError):
    """A message that can't be opened: changed, sealed for somebody else, or none."""


def seal(plaintext: bytes, key: Key, content: str) -> bytes:
    """The sealed message; `content` ("cty", such as cloudevents+json) is all that can be read of it from outside,
    besides its size, the key's id and the algorithm."""
    extra, secret = key.fresh()
    header = {"alg": key.algorithm, "enc": "A256GCM", "kid": key.kid, "cty": content, key.extra: extra}
    protected = encoded(json.dumps(header, separators=(",", ":")).encode())
    nonce = os.urandom(NONCE)
    sealed = encrypt(secret, nonce, plaintext, protected.encode())
    return ".".join((protected, "", encoded(nonce), encoded(sealed[:-TAG]), encoded(sealed[-TAG:]))).encode()


def unseal(message: bytes, keys: Mapping[str, Key]) -> tuple[str, bytes]:
    """(content, plaintext) of a sealed message; SealError where it is not exactly what was sealed for one of `keys`."""
    try:
        protected, empty, nonce, sealed, tag = message.decode("ascii").split(".")
    except ValueError:
        raise SealError("not a sealed message: must be five parts in base64url (JWE, compact)") from None
    if empty:
        raise SealError("a sealed message with an encrypted key, which no algorithm here has")
    header = _header(protected)
    key = keys.get(header["kid"])
    if key is None:
        raise SealError(f"sealed with a key that is not here: {header['kid'][:64]}")
    if set(header) != {"alg", "enc", "kid", "cty", key.extra} or header["alg"] != key.algorithm:
        raise SealError(f"sealed in another way than the key {key.kid} does")
    try:
        secret = key.again(header[key.extra])
        return header["cty"], decrypt(
            secret, decoded(nonce, NONCE), decoded(sealed), decoded(tag, TAG), protected.encode()
        )
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise SealError(f"can't be opened: {error}") from None


def sealing(keys: Mapping[str, Key], where: str | Path) -> Key:
    """The key of a file that seals, its first; UserError where it can't, or where the private half of a server's key
    lies beside it."""
    for key in keys.values():
        if isinstance(key, ServerKey) and key.private:
            raise UserError(f"{where}: key {key.kid}: has the server's private half (d), which no device may hold")
    key = next(iter(keys.values()))
    try:
        seal(b"", key, "")
    except ValueError as error:
        if isinstance(error, UserError):  # a package is missing
            raise
        raise UserError(f"{where}: key {key.kid}: seals nothing ({reason(error)}); make a new one") from None
    return key


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, authenticated: bytes) -> bytes:
    """Ciphertext and tag of AES-256-GCM."""
    sealed: bytes = _aes(key).encrypt(nonce, plaintext, authenticated)
    return sealed


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes, authenticated: bytes) -> bytes:
    """The plaintext; ValueError where anything was changed."""
    try:
        plaintext: bytes = _aes(key).decrypt(nonce, ciphertext + tag, authenticated)
    except needed("cryptography.exceptions").InvalidTag:
        raise ValueError("it was changed, or sealed with another key of this id") from None
    return plaintext


def _aes(key: bytes) -> Any:
    return needed("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)


def _header(protected: str) -> dict[str, Any]:
    try:
        if len(protected) > MOST_HEADER:
            raise ValueError(f"more than {MOST_HEADER} characters")
        header = parsed(Path("header"), decoded(protected))
    except ValueError as error:
        raise SealError(f"no header of a sealed message: {error}") from None
    texts = isinstance(header, dict) and all(isinstance(header.get(key), str) for key in ("alg", "kid", "cty"))
    if not texts or header.get("enc") != "A256GCM":
        raise SealError("no header of a sealed message: needs alg, kid, cty, and A256GCM as enc")
    found: dict[str, Any] = header
    return found
