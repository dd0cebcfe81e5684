"""Sealed messages against joserfc, NIST's vectors, a second HKDF and whoever changes one character; keys and secrets
only from files that nobody else reads."""

import hashlib
import hmac
import json
import os
import sys

import pytest
from conftest import one_line
from joserfc import jwe
from joserfc.jwk import OctKey, OKPKey

from edge.__main__ import main
from edge.errors import UserError
from edge.link.extra import needed
from edge.link.keys import decoded, encoded, new_keys, read_keys, write_keys
from edge.link.seal import SealError, decrypt, encrypt, seal, sealing, unseal
from edge.link.secretfile import read_line, read_secret

PLAIN = b'{"camera": "yard"}'
KINDS = pytest.mark.parametrize("pair", [False, True], ids=["shared", "pair"])
REGISTRY = jwe.JWERegistry(algorithms=["dir", "ECDH-ES", "A256GCM"], strict_check_header=False)  # takes our "salt"

# NIST CAVP, gcmtestvectors.zip, gcmEncryptExtIV256.rsp, count 0 of the sections with IVlen 96, Taglen 128, and
# (PTlen, AADlen) = (0, 0), (128, 0), (128, 128), (408, 0), (408, 384)
VECTORS = [
    "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4 516c33929df5a3284ff463d7 - - - "
    "bdc1ac884d332457a1d2664f168c76f0",
    "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22 0d18e06c7c725ac9e362e1ce "
    "2db5168e932556f8089a0622981d017d - fa4362189661d163fcd6a56d8bf0405a d636ac1bbedd5cc3ee727dc2ab4a9489",
    "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b ac93a1a6145299bde902f21a "
    "2d71bcfa914e4ac045b2aa60955fad24 1e0889016f67601c8ebea4943bc23ad6 8995ae2e6df3dbf96fac7b7137bae67f "
    "eca5aa77d51d4a0a14d9c51e1da474ab",
    "1fded32d5999de4a76e0f8082108823aef60417e1896cf4218a2fa90f632ec8a 1f3afa4711e9474f32e70462 "
    "06b2c75853df9aeb17befd33cea81c630b0fc53667ff45199c629c8e15dce41e530aa792f796b8138eeab2e86c7b7bee1d40b0 - "
    "91fbd061ddc5a7fcc9513fcdfdc9c3a7c5d4d64cedf6a9c24ab8a77c36eefbf1c5dc00bc50121b96456c8cd8b6ff1f8b3e480f "
    "30096d340f3d5c42d82a6f475def23eb",
    "463b412911767d57a0b33969e674ffe7845d313b88c6fe312f3d724be68e1fca 611ce6f9a6880750de7da6cb "
    "e7d1dcf668e2876861940e012fe52a98dacbd78ab63c08842cc9801ea581682ad54af0c34d0d7f6f59e8ee0bf4900e0fd85042 "
    "0a682fbc6192e1b47a5e0868787ffdafe5a50cead3575849990cdd2ea9b3597749403efb4a56684f0c6bde352d4aeec5 "
    "8886e196010cb3849d9c1a182abe1eeab0a5f3ca423c3669a4a8703c0f146e8e956fb122e0d721b869d2b6fcd4216d7d4d3758 "
    "2469cecd70fd98fec9264f71df1aee9a",
]


@pytest.fixture(params=[False, True], ids=["shared", "pair"])
def sets(request, tmp_path):
    """(keys of the device, keys of the server, the JWK of the server)."""
    device, server = new_keys("2026-11", request.param)
    write_keys(tmp_path / "device.json", device)
    write_keys(tmp_path / "server.json", server)
    return read_keys(tmp_path / "device.json"), read_keys(tmp_path / "server.json"), server["keys"][0]


def sealed(keys, plain=PLAIN):
    return seal(plain, sealing(keys, "device.json"), "cloudevents+json")


@pytest.mark.parametrize("vector", VECTORS, ids=range(5))
def test_vectors_of_nist(vector):
    key, nonce, plain, extra, cipher, tag = (bytes.fromhex(part.strip("-")) for part in vector.split())
    assert encrypt(key, nonce, plain, extra) == cipher + tag
    assert decrypt(key, nonce, cipher, tag, extra) == plain
    with pytest.raises(ValueError, match="changed"):
        decrypt(key, nonce, cipher, bytes([tag[0] ^ 1]) + tag[1:], extra)


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


@pytest.mark.parametrize("plain", [PLAIN, b"", os.urandom(48_000)], ids=["event", "empty", "part"])
def test_joserfc_opens_what_we_seal(sets, plain):
    device, _, jwk = sets
    message = sealed(device, plain).decode()
    header = json.loads(decoded(message.split(".")[0]))
    if jwk["kty"] == "oct":
        info = b"edge-vision seal 1 2026-11"
        key = OctKey.import_key(hkdf(decoded(jwk["k"]), decoded(header["salt"]), info))
    else:
        key = OKPKey.import_key(jwk)
    opened = jwe.decrypt_compact(message, key, registry=REGISTRY)
    assert opened.plaintext == plain
    assert opened.protected["kid"] == "2026-11" and opened.protected["cty"] == "cloudevents+json"


def test_we_open_what_joserfc_seals(sets):
    _, server, jwk = sets
    header = {"enc": "A256GCM", "kid": "2026-11", "cty": "cloudevents+json"}
    if jwk["kty"] == "oct":
        header |= {"alg": "dir", "salt": encoded(b"s" * 32)}
        key = OctKey.import_key(hkdf(decoded(jwk["k"]), b"s" * 32, b"edge-vision seal 1 2026-11"))
    else:
        header |= {"alg": "ECDH-ES"}
        key = OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
    message = jwe.encrypt_compact(header, PLAIN, key, registry=REGISTRY)
    assert unseal(message.encode(), server) == ("cloudevents+json", PLAIN)


def test_every_character_is_protected(sets):
    """Each one replaced by its neighbours in the alphabet: the two that differ in the bits that padding may hide."""
    device, server, _ = sets
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    message = sealed(device).decode()
    assert unseal(message.encode(), server) == ("cloudevents+json", PLAIN)
    for i, character in enumerate(message):
        for other in {alphabet[(alphabet.index(character) + step) % 65] for step in (1, -1, 16, 32)}:
            with pytest.raises(SealError):
                unseal((message[:i] + other + message[i + 1 :]).encode(), server)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kid": "2026-10"}, "can't be opened: it was changed"),
        ({"kid": "2027"}, "sealed with a key that is not here: 2027"),
        ({"cty": "clip"}, "can't be opened: it was changed"),
        ({"alg": "A256KW"}, "sealed in another way than the key 2026-11 does"),
        ({"enc": "A128GCM"}, "no header of a sealed message"),
        ({"zip": "DEF"}, "sealed in another way"),
        ({"crit": ["cty"]}, "sealed in another way"),
        ({"cty": None}, "no header of a sealed message"),
    ],
)
def test_a_changed_header(sets, tmp_path, changes, said):
    """Also to the id of another key of the server, even one with the same secret."""
    device, _, jwk = sets
    write_keys(tmp_path / "two.json", {"keys": [jwk, {**jwk, "kid": "2026-10"}]})
    protected, rest = sealed(device).decode().split(".", 1)
    header = json.loads(decoded(protected)) | changes
    with pytest.raises(SealError, match=said) as caught:
        unseal(f"{encoded(json.dumps(header).encode())}.{rest}".encode(), read_keys(tmp_path / "two.json"))
    one_line(caught)


def test_parts_of_two_messages_do_not_fit(sets):
    device, server, _ = sets
    first, second = (sealed(device).decode().split(".") for _ in range(2))
    for i in (0, 2, 3, 4):
        assert first[i] != second[i]  # no nonce, salt or ephemeral key comes twice, and so no ciphertext
        with pytest.raises(SealError):
            unseal(".".join([*first[:i], second[i], *first[i + 1 :]]).encode(), server)


@pytest.mark.parametrize("x", ["AA", encoded(bytes(32)), 7, None], ids=["short", "low order", "number", "null"])
def test_a_wrong_ephemeral_key(tmp_path, x):
    write_keys(tmp_path / "server.json", new_keys("a", True)[1])
    header = {
        "alg": "ECDH-ES",
        "enc": "A256GCM",
        "kid": "a",
        "cty": "clip",
        "epk": {"kty": "OKP", "crv": "X25519", "x": x},
    }
    message = ".".join((encoded(json.dumps(header).encode()), "", encoded(b"n" * 12), "", encoded(b"t" * 16)))
    with pytest.raises(SealError) as caught:
        unseal(message.encode(), read_keys(tmp_path / "server.json"))
    one_line(caught)


@pytest.mark.parametrize("message", [b"", b"....", b"a.b.c", b"\xff....", b"e30....", b"W10....", b"A" * 5000])
def test_what_is_no_sealed_message(sets, message):
    with pytest.raises(SealError) as caught:
        unseal(message, sets[1])
    one_line(caught)


def test_rotation(tmp_path):
    """The first key seals, all open, and what was taken away doesn't."""
    old, new = (new_keys(kid, False)[0]["keys"][0] for kid in ("2026", "2027"))
    for name, keys in {"old": [old], "both": [new, old], "new": [new]}.items():
        write_keys(tmp_path / name, {"keys": keys})
    before, after = (sealed(read_keys(tmp_path / name)) for name in ("old", "both"))
    both, only = read_keys(tmp_path / "both"), read_keys(tmp_path / "new")
    assert unseal(before, both)[1] == unseal(after, both)[1] == unseal(after, only)[1] == PLAIN
    with pytest.raises(SealError, match="sealed with a key that is not here: 2026"):
        unseal(before, only)


def test_a_device_opens_nothing_that_was_sealed_for_the_server(tmp_path):
    device, server = new_keys("a", True)
    write_keys(tmp_path / "device.json", device)
    write_keys(tmp_path / "server.json", server)
    keys = read_keys(tmp_path / "device.json")
    with pytest.raises(SealError, match="the private key is not here"):
        unseal(sealed(keys), keys)
    with pytest.raises(UserError, match="has the server's private half"):
        sealing(read_keys(tmp_path / "server.json"), "server.json")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o777, 0o700, 0o601, 0o4600])
def test_a_file_that_others_may_use(tmp_path, mode):
    path = tmp_path / "keys.json"
    write_keys(path, new_keys("a", False)[0])
    assert path.stat().st_mode & 0o7777 == 0o600
    path.chmod(mode)
    for read in (read_keys, read_secret, read_line):
        with pytest.raises(UserError, match=rf"keys.json: has mode {mode:04o}, must be 0600") as caught:
            read(path)
        one_line(caught)


def test_other_files_that_hold_no_secret(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "empty").touch(0o600)
    for name in ("pipe", "empty", "missing", ".", "a\0b", "/dev/zero"):
        with pytest.raises(UserError) as caught:
            read_secret(str(tmp_path / name))
        one_line(caught)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user(tmp_path):
    (tmp_path / "keys.json").touch(0o600)
    os.chown(tmp_path / "keys.json", 12345, 0)
    with pytest.raises(UserError, match="belongs to another user"):
        read_secret(tmp_path / "keys.json")


@pytest.mark.parametrize("text", [b"\n", b"a\nb\n", b"\xff", b"a\0b", b"   "])
def test_what_is_no_password(tmp_path, text):
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        read_line(path)
    one_line(caught)
    path.write_bytes("geheim äöü\n".encode())
    assert read_line(path) == "geheim äöü"


SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYzE"
JWK = {"kty": "oct", "kid": "a", "k": SECRET}


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f'"{SECRET}"',
        json.dumps({"keys": SECRET}),
        json.dumps({"keys": [SECRET]}),
        json.dumps({"keys": []}),
        json.dumps(JWK),
        *(
            json.dumps({"keys": [{**JWK, **changes}]})
            for changes in (
                {"k": SECRET + "A"},
                {"k": SECRET[:-1] + "F"},
                {"k": SECRET[:-1]},
                {"k": [SECRET]},
                {"k": SECRET[:-1] + "ä"},
                {"kid": ""},
                {"kid": None},
                {"kid": "a b"},
                {"kty": "RSA"},
                {"kty": "OKP", "crv": "Ed25519", "x": SECRET},
                {"kty": "OKP", "crv": "X25519", "x": SECRET, "d": SECRET},
                {"kty": "OKP", "crv": "X25519", "x": SECRET[:-2]},
            )
        ),
        json.dumps({"keys": [JWK, JWK]}),
        json.dumps({"keys": [JWK]})[:-1],
    ],
)
def test_wrong_keys_are_one_line_without_them(tmp_path, text):
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_keys(path)
    assert one_line(caught).startswith(f"{path}: ") and "c2Vj" not in str(caught.value)


@KINDS
def test_keys_show_nothing(tmp_path, pair):
    _, server = new_keys("a", pair)
    write_keys(tmp_path / "server.json", server)
    secret = server["keys"][0]["d" if pair else "k"]
    key = read_keys(tmp_path / "server.json")["a"]
    for text in (repr(key), str(key), f"{read_keys(tmp_path / 'server.json')}"):
        assert secret not in text and repr(decoded(secret)) not in text and "a" in text


def test_new_keys_replace_none(tmp_path):
    write_keys(tmp_path / "keys.json", new_keys("a", False)[0])
    with pytest.raises(UserError, match="exists; give a new file"):
        write_keys(tmp_path / "keys.json", new_keys("b", False)[0])
    with pytest.raises(UserError, match="a b: must be"):
        new_keys("a b", False)
    assert new_keys("a", False) != new_keys("a", False) and new_keys("a", True) != new_keys("a", True)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(UserError) as caught:
        needed("paho.mqtt.client")
    assert one_line(caught) == 'sending needs paho-mqtt: pip install "edge-vision[link]"'


def test_a_key_that_seals_nothing_is_known_at_the_start(tmp_path):
    """A point of low order, with which everybody would agree on the same secret."""
    write_keys(tmp_path / "keys.json", {"keys": [{"kty": "OKP", "crv": "X25519", "kid": "a", "x": encoded(bytes(32))}]})
    with pytest.raises(UserError, match="key a: seals nothing") as caught:
        sealing(read_keys(tmp_path / "keys.json"), "keys.json")
    one_line(caught)


@KINDS
def test_a_missing_package_is_known_at_the_start(tmp_path, monkeypatch, pair):
    write_keys(tmp_path / "keys.json", new_keys("a", pair)[0])
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(UserError, match='sending needs cryptography: pip install "edge-vision'):
        sealing(read_keys(tmp_path / "keys.json"), "keys.json")


@KINDS
def test_the_command_that_makes_keys(here, capsys, pair):
    command = ["keys", "2026-11", "device.json", "server.json", *([] if pair else ["--shared"])]
    assert main(command) == 0
    message = sealed(read_keys("device.json"))
    assert unseal(message, read_keys("server.json"))[1] == PLAIN
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and not any(len(word) > 40 for word in out.split())
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert main(command) == 1 and capsys.readouterr().err.startswith("error: device.json: exists; give a new file")
    assert main(["keys", "2026-12", "new.json", "server.json"]) == 1
    assert before == {path.name: path.read_bytes() for path in here.iterdir()}
