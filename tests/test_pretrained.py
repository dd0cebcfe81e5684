"""Pretrained networks that can't be loaded, or want to run code, and versions of the hub: one line each."""

import ast
import json

import pytest
import torch
from conftest import ROOT, one_line
from transformers import Dinov2Config, Dinov2Model

from edge.errors import UserError
from stages.detectors.backbone import pretrained
from stages.detectors.hub import located
from stages.detectors.trunks import load as load_trunk


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(UserError, match="no such folder") as caught:
        pretrained(name, [1])
    assert one_line(caught).startswith(f"teacher.backbone = {name}: ")


def test_a_folder_without_a_model_or_with_a_damaged_one_is_refused(dinov2, tmp_path):
    (tmp_path / "empty").mkdir()
    (dinov2 / "model.safetensors").write_bytes((dinov2 / "model.safetensors").read_bytes()[:1000])
    for folder in (tmp_path / "empty", dinov2):
        with pytest.raises(UserError, match=f"teacher.backbone = {folder}: can't be loaded") as caught:
            pretrained(str(folder), [1])
        one_line(caught)


EVIL = """
import pathlib
from transformers import PreTrainedConfig
pathlib.Path(r"{mark}").touch()
class Config(PreTrainedConfig):
    model_type = "evil"
"""


@pytest.mark.parametrize("reference", ["code.Config", "someone/else--code.Config"])
def test_code_that_comes_with_a_network_is_never_run_nor_asked_about(dinov2, tmp_path, monkeypatch, reference):
    mark = tmp_path / "ran"
    (dinov2 / "code.py").write_text(EVIL.format(mark=mark))
    config = json.loads((dinov2 / "config.json").read_text())
    changed = config | {"model_type": "evil", "auto_map": {"AutoConfig": reference}}
    (dinov2 / "config.json").write_text(json.dumps(changed))
    asked = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    with pytest.raises(UserError, match=r"needs code that comes with it \(auto_map\), which is never run") as caught:
        pretrained(str(dinov2), [1])
    assert one_line(caught) and not asked and not mark.exists()
    with pytest.raises(UserError, match="is a evil; a student starts from"):
        load_trunk(str(dinov2))
    assert not asked and not mark.exists()
    (dinov2 / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": reference}}))
    pretrained(str(dinov2), [1])  # of a class that transformers has itself
    assert not asked and not mark.exists()


def test_every_loader_of_transformers_refuses_code():
    """Whoever adds a call of from_pretrained has to pass on what `located` says."""
    calls = [path for path in (ROOT / "stages").rglob("*.py") if "from_pretrained(" in path.read_text()]
    assert {path.name for path in calls} == {"backbone.py", "mobilenet_v2.py"}
    for path in calls:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                assert "options" in [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg is None]
    assert located("teacher.backbone", "a/b", "simclr")[1]["trust_remote_code"] is False


CONFIGS = {
    "kernel": {"_attn_implementation": "someone/kernel"},
    "type": {"model_type": [1]},
    "map": {"model_type": "evil", "auto_map": 5},
    "text": {"hidden_size": "wide"},
    "heads": {"num_attention_heads": 0},
    "negative": {"hidden_size": -4},
    "memory": {"hidden_size": 10**12},
    "other": {"hidden_size": 64},
    "deeper": {"num_hidden_layers": 4},
    "dtype": {"dtype": "evil"},
}
FILES = {"latin": b'{"a": "\xfc"}', "nesting": b"[" * 20_000, "list": b"[1]"}
FILES["number"] = b'{"hidden_size": ' + b"9" * 5000 + b"}"


@pytest.mark.parametrize("what", [*CONFIGS, *FILES])
def test_a_config_that_makes_no_network_is_one_line(dinov2, what):
    path = dinov2 / "config.json"
    changed = json.loads(path.read_text()) | CONFIGS.get(what, {})
    path.write_bytes(FILES.get(what) or json.dumps(changed).encode())
    with pytest.raises(UserError, match=f"teacher.backbone = {dinov2}: ") as caught:
        pretrained(str(dinov2), [1])
    assert len(one_line(caught)) < 600


NAMES = ("x" * 300, "x" * 5000, "/" + "x" * 5000, "a\0b", "~nouser/x", "/dev/null", "a/b@", "a/b@../x")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:10]))
def test_a_name_that_is_none_is_one_line(name, offline):
    for read in (lambda: pretrained(name, [1]), lambda: load_trunk(name)):
        with pytest.raises(UserError, match=r"^(teacher\.backbone|student\.init) = ") as caught:
            read()
        assert len(one_line(caught)) < 600


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The hub's cache in an empty folder, and no way to the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_revision_of_the_hub_is_pinned(offline):
    """Two versions of a network as the hub's cache holds them."""
    sums = {}
    for number, branch in enumerate(("main", "v1")):
        commit = str(number) * 40
        torch.manual_seed(number)
        whole = Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28))
        whole.save_pretrained(offline / "models--some--net/snapshots" / commit)
        (offline / "models--some--net/refs").mkdir(exist_ok=True)
        (offline / "models--some--net/refs" / branch).write_text(commit)
        sums[branch] = sums[commit] = float(whole.embeddings.cls_token.detach().sum())
    for name in ("main", "v1", "0" * 40, "1" * 40):
        assert float(pretrained(f"some/net@{name}", [1]).embeddings.cls_token.detach().sum()) == sums[name]
    assert float(pretrained("some/net", [1]).embeddings.cls_token.detach().sum()) == sums["main"]
    with pytest.raises(UserError, match=r"some/net@v2: can't be loaded"):
        pretrained("some/net@v2", [1])


def test_a_local_folder_has_no_revision(dinov2):
    with pytest.raises(UserError, match="a local folder has no revision; leave out @main"):
        pretrained(f"{dinov2}@main", [1])
    renamed = dinov2.rename(dinov2.with_name("net@home"))
    pretrained(str(renamed), [1])


@pytest.mark.parametrize("layers", [[3], [0, 9]])
def test_a_wrong_layer_number_is_named(layers, dinov2):
    with pytest.raises(UserError) as caught:
        pretrained(str(dinov2), layers)
    message = one_line(caught)
    assert message.startswith(f"teacher.layers = {layers}: ") and "stage2" in message
