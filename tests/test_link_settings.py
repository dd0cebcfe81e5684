"""The section `link` of a site: what it takes, what it refuses, and files that can't be used."""

import re

import pytest
from conftest import one_line
from link_parties import Authority, private, site

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.link.settings import DEFAULTS, parse


def wrong(tmp_path, device="gate-1", **values):
    fields = Fields(tmp_path / "site.json", {"address": "mqtts://broker", "keys": "device.json", **values}, "link.")
    with pytest.raises(UserError) as caught:
        fields.parsed(lambda found: parse(found, device))
    line = one_line(caught)
    assert line.startswith(f"{tmp_path / 'site.json'}: link.")
    return line.partition(": link.")[2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"address": 7}, "address = 7: must be a non-empty string"),
        ({"address": "broker:8883"}, "address = broker:8883: must be mqtts://HOST"),
        ({"address": "ftp://broker"}, "address = ftp://broker: must be mqtts://HOST"),
        ({"address": "mqtts://"}, "address = mqtts://: must be mqtts://HOST"),
        ({"address": "mqtts://b:99999"}, "address = mqtts://b:99999: not an address"),
        ({"address": "mqtts://b:0"}, "address = "),
        (
            {"address": "mqtts://300.1.1.1"},
            "address = mqtts://300.1.1.1: not an address (300.1.1.1 is no IPv4 address)",
        ),
        ({"address": "mqtts://[::1"}, "address = mqtts://[::1: not an address"),
        ({"address": "mqtts://b/x"}, "address = mqtts://b/x: must be"),
        ({"address": "https://b/?token=geheim"}, "address = https://b/?token=***: must be"),
        ({"address": "https://b/a b"}, "address = https://b/a b: not an address"),
        ({"address": "https://" + "b" * 2000}, "address = https://bbb"),
        ({"address": "mqtts://" + "b" * 70}, "address = mqtts://bbb"),
        ({"address": "mqtts://me:geheim@broker"}, "address = mqtts://***@broker: must hold no user or password"),
        ({"address": "http://server"}, "address = http://server: must be https"),
        ({"keys": ""}, "keys = '': must be a non-empty string"),
        ({"keys": "a\0b"}, "keys = 'a\\x00b': must be the name of a file"),
        ({"outbox": None}, "outbox = None: must be a non-empty string"),
        ({"most_messages": 1}, "most_messages = 1: must be a whole number of at least 2"),
        ({"most_mb": 7}, "most_mb = 7: must be a whole number of at least 8"),
        ({"clips": 1}, "clips = 1: must be False or True"),
        ({"protocol": 5}, "protocol = 5: must be '5' or '3.1.1'"),
        ({"prefix": "a/#"}, "prefix = 'a/#': must be a topic"),
        ({"prefix": "$SYS"}, "prefix = '$SYS': must be a topic"),
        ({"prefix": "a/"}, "prefix = 'a/': must be a topic"),
        ({"password_file": "password"}, "user = None: must be the user whose password"),
        ({"certificate_key": "a.key"}, "certificate = None: must be"),
        ({"token_file": "token"}, "token_file = 'token': must be left out: mqtts has no such thing"),
        ({"address": "https://b", "user": "me"}, "user = 'me': must be left out: https has no such thing"),
        ({"address": "https://b", "home_assistant": True}, "home_assistant = True: must be left out"),
        ({"address": "mqtt://b", "authority": "ca.pem"}, "authority = 'ca.pem': must be left out: mqtt has no TLS"),
        (
            {"address": "mqtt://b", "user": "me", "password_file": "password"},
            "password_file = 'password': must be left out: anybody on the way could read it; give mqtts",
        ),
        ({"password": "geheim"}, "password: unknown field"),
    ],
)
def test_wrong_settings(tmp_path, values, said):
    line = wrong(tmp_path, **values)
    assert line.startswith(said) and "geheim" not in line


@pytest.mark.parametrize("key", sorted({*DEFAULTS, "address", "keys"}))
@pytest.mark.parametrize("value", [[], {}, 1.5, float("nan"), -1, "\ud800", 10**400, True, "\n"], ids=repr)
def test_values_of_any_kind(tmp_path, key, value):
    """Are taken, or refused in one line: about the other of a pair where that is missing."""
    pair = {"password_file": "user", "certificate_key": "certificate"}
    fields = Fields(tmp_path / "site.json", {"address": "mqtts://broker", "keys": "k", key: value}, "link.")
    try:
        fields.parsed(lambda found: parse(found, "gate-1"))
    except UserError as error:
        assert "\n" not in str(error) and re.search(f"link.({key}|{pair.get(key)}) ", str(error))


def test_settings_of_a_site(tmp_path):
    found = site(tmp_path, "mqtts://broker.example", user="me", password_file="sub/password", authority="/etc/ca.pem")
    assert (found.endpoint.host, found.endpoint.port) == ("broker.example", 8883)
    assert found.password_file == tmp_path / "sub/password" and str(found.authority) == "/etc/ca.pem"
    assert found.prefix == "edge-vision/gate-1" and found.outbox == tmp_path / "outbox.db" and not found.clips


def test_files_that_can_not_be_used(tmp_path):
    made = Authority(tmp_path / "ca")
    certificate, key = made.issue("gate-1")
    private(tmp_path / "password", "geheim")
    (tmp_path / "password").chmod(0o644)
    public = tmp_path / "public.key"
    public.write_bytes(key.read_bytes())
    for values, said in [
        ({"authority": "missing.pem"}, "missing.pem: no certificate of an authority"),
        ({"authority": "device.json"}, "device.json: no certificate of an authority"),
        ({"certificate": str(certificate), "certificate_key": "missing"}, "missing: can't be read"),
        ({"certificate": str(certificate), "certificate_key": str(public)}, "public.key: has mode 0644, must be 0600"),
        ({"certificate": str(made.file), "certificate_key": str(key)}, "no certificate with its unencrypted key"),
        ({"user": "me", "password_file": "password"}, "password: has mode 0644, must be 0600"),
    ]:
        with pytest.raises(UserError) as caught:
            site(tmp_path, "mqtts://broker", **values).sender()
        assert said in one_line(caught) and "geheim" not in one_line(caught)
