"""YAML files that people write or damage: one line that says what is wrong, soon, whoever reads them."""

import os
import time

import pytest
import yaml

from edge.errors import UserError
from hardware_runners.__main__ import main as runners
from hardware_runners.runner import devices
from stages.common import params, yamlfile

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
CHAIN = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else ''}]\n" for i in range(3000))
BROKEN = {  # content: what the line has to say
    b"title: Gr\xfcn": "not UTF-8: line 1 holds the byte 0xfc",
    b"a: 1\nb: \xff\xfe": "not UTF-8: line 2 holds the byte 0xff",
    "seed: 1\n".encode("utf-16"): "not UTF-8",
    b"a: 1\0": "unacceptable character #x0000",
    b"a: " + b"9" * 5000: "a number of 5000 characters",
    b"a: -" + b"9" * 5000: "a number of 5001 characters",
    b"a: 0x" + b"f" * 5000: "a number of 5002 characters",
    b"a: 1" + b":59" * 50_000: "a number of 150001 characters",  # base 60, of YAML 1.1
    b"a: 1." + b"9" * 5000: "a number of 5002 characters",
    b"a: " + b"[" * 20_000: "more than 50 levels of nesting",
    b"a: " + b"[" * 20_000 + b"]" * 20_000: "more than 50 levels of nesting",
    b"{a: " * 20_000: "more than 50 levels of nesting",
    b"- " * 20_000 + b"x": "more than 50 levels of nesting",
    LAUGHS.encode(): "more than 100000 values",
    MERGES.encode(): "more than 100000 values",
    CHAIN.encode(): "50 levels of nesting",
    b"a: &a [*a]": "an alias of what it is in itself",
    b"&a {x: *a}": "an alias of what it is in itself",
    b"a: *b": "undefined alias 'b'",
    b"a: 1\nb: 2\na: 3\n": "the key 'a' is there twice",
    b"x:\n  a: 1\n  'a': 3\n": "the key 'a' is there twice",
    b"a: 2024-99-99": "month must be in 1..12",
    b"a: !!int abc": "invalid literal",
    b"a: !!int ''": "not valid YAML",
    b"a: !!bool maybe": "not valid YAML",
    b"a: !!timestamp now": "not valid YAML",
    b"a: 0x_": "invalid literal",
    b"a: !!python/object/apply:os.system ['true']": "could not determine a constructor",
    b"a: !<" + b"x" * 100_000 + b"> 1": "could not determine a constructor",
    b"? [a]\n: 1": "unhashable key",
    b"a: 1\n---\nb: 2\n": "expected a single document",
    b"# much\n" * 200_000: "larger than 1 MiB",
}
READERS = {"params": params.read_yaml, "inventory": devices.read_yaml}


def refused(read, path) -> str:
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(path)
    assert time.monotonic() - began < 60
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_one_line(content, reader, tmp_path):
    (tmp_path / "x.yaml").write_bytes(content)
    assert BROKEN[content] in refused(READERS[reader], tmp_path / "x.yaml")


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_of_its_own_is_not_read(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for target in ("/dev/zero", "/dev/null", "pipe", "folder"):
        link = tmp_path / "x.yaml"
        link.symlink_to(target)
        assert "not a regular file" in refused(READERS[reader], link)
        link.unlink()
    assert "file not found" in refused(READERS[reader], tmp_path / "x.yaml")


def test_what_people_write_is_read_as_before():
    text = "\ufeffbase: &base {a: 1, b: [1.5, yes, null, 2024-01-02]}\nother:\n  <<: *base\n  a: 2\nlist: [*base]\n"
    found = yamlfile.parse(text, "x")
    assert found == yaml.safe_load(text) and found["other"]["a"] == 2
    assert yamlfile.parse("", "x") is None
    assert yamlfile.parse("a: " + "9" * 100, "x") == {"a": int("9" * 100)}


@pytest.mark.parametrize("content", [b"plan: {x: \xfc}", b"plan: " + b"[" * 20_000, b"plan: {a: 1, a: 2}"])
def test_the_plan_and_the_graph_are_read_by_the_same_rules(content, here):
    (here / "hardware_runners").mkdir()
    (here / params.PLAN).write_bytes(content)
    for read in (params.read_plan, devices.plan):
        with pytest.raises(UserError, match=r"plan\.yaml: not "):
            read()


@pytest.mark.parametrize("content", ["", "5", "- 1", "stages: 5", "stages: {fetch: 5}", "stages: {fetch: {params: 5}}"])
def test_a_damaged_graph_is_one_line(content):
    with pytest.raises(UserError, match=r"dvc\.yaml: has no stage fetch"):
        params.declared_keys("fetch", yaml.safe_load(content))


def test_the_command_says_it_in_one_line(here, capsys):
    devices.INVENTORY.mkdir(parents=True)
    (here / devices.PLAN).write_bytes(b"plan: {}")
    (devices.INVENTORY / "pi.yaml").write_bytes(b"name: pi\nnotes: \xfc\n")
    assert runners(["list"]) == 1
    assert capsys.readouterr().err == (
        "error: hardware_runners/inventory/pi.yaml: not UTF-8: line 2 holds the byte 0xfc; save it as UTF-8\n"
    )
