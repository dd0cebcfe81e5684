"""params.yaml: what the schema refuses and how it says so, how the tracked file is written."""

import copy
import datetime
import shutil

import pytest
import yaml
from conftest import ROOT

from edge.errors import UserError
from hardware_runners.runner import devices
from stages.common import params
from stages.common.schema import Plan, Schema

TREE = yaml.safe_load((ROOT / "params.yaml").read_text())
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
MISSING = object()


def changed(values: dict) -> dict:
    """The tracked params with some keys set, or removed where the value is MISSING."""
    tree = copy.deepcopy(TREE)
    for dotted, value in values.items():
        *parents, leaf = dotted.split(".")
        at = tree
        for part in parents:
            at = at[part]
        if value is MISSING:
            del at[leaf]
        else:
            at[leaf] = value
    return tree


def refusal(tree) -> str:
    """The message that refuses the params; it has to be one line."""
    with pytest.raises(UserError) as caught:
        params.validate(tree)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the schema


def test_tracked_file_is_valid_and_keeps_its_values():
    """But for the step of a variant, the one key that may be absent."""
    assert params.validate(TREE).model_dump(exclude_unset=True) == TREE


REFUSED = [  # key, value, what the message has to say is allowed
    ("student.width", "wide", "a valid number"),
    ("student.width", None, "a valid number"),
    ("student.width", True, "a valid number"),
    ("distill.lr", "1e-3", "a valid number"),
    ("seed", "0", "a valid integer"),
    ("seed", True, "a valid integer"),
    ("seed", 1.5, "a valid integer"),
    ("teacher.simclr_steps", None, "a valid integer"),
    ("teacher.layers", 3, "a valid list"),
    ("teacher.backbone", 5, "a valid string"),
    ("data.path", 5, "a valid string"),
    ("student", "wide", "a valid dictionary"),
    ("data.source", None, "a valid string"),
    ("teacher.score", "mean", "'max' or 'reweighted'"),
    (
        "variants.student-int8",
        {"model": "qat", "format": "onnx", "precision": "float16", "role": "student"},
        "onnx is made in float32 or int8 only",
    ),
    ("variants.student-int8.format", "ncnn", "must be one of edgetpu, onnx, openvino, tensorrt, tflite"),
    ("input.color", "bayer", "'rgb' or 'grey'"),
    ("input.step", 0, "greater than or equal to 1"),
    ("variants.student-int8.precision", "int4", "'float32', 'float16' or 'int8'"),
    ("variants.student-int8.role", "judge", "'teacher', 'student' or 'baseline'"),
    ("variants.student-int8.model", "../teacher", "match pattern"),
    ("compile.smooth", 4, "1, 3, 5 or 7"),
    ("data.val_fraction", 1.5, "less than 1"),
    ("data.val_fraction", 0.0, "greater than 0"),
    ("student.width", 0.01, "greater than or equal to 0.1"),
    ("student.poses", "all", "'shown' or 'none'"),
    ("student.width", 5, "less than or equal to 4"),
    ("input.size", 16, "greater than or equal to 32"),
    ("input.size", 100, "a multiple of 16"),
    ("compress.prune_ratio", 0.95, "less than 0.95"),
    ("compress.qat_epochs", -1, "greater than or equal to 0"),
    ("distill.epochs", -1, "greater than or equal to 0"),
    ("distill.train_trunk", 1, "a valid boolean"),
    ("distill.train_trunk", "yes", "a valid boolean"),
    ("compile.map_sigma", float("nan"), "finite number"),
    ("distill.feature_weight", float("inf"), "finite number"),
    ("threads", 0, "greater than or equal to 1"),
    ("student.init", "", "at least 1 character"),
    ("seed", 10**30, "less than or equal to 4294967295"),
    ("threads", 10**9, "less than or equal to 1024"),
    ("teacher.patch_pool", True, "a valid integer"),
    ("teacher.patch_pool", 3.0, "a valid integer"),
    ("teacher.patch_pool", "3", "a valid integer"),
    ("teacher.patch_pool", 2, "must be 1, 3, 5, 7 or 9"),
    ("teacher.patch_stride", True, "a valid integer"),
    ("compile.smooth", True, "a valid integer"),
    ("compile.smooth", 1.0, "a valid integer"),
    ("data.path", "a\0b", "no control characters"),
    ("data.path", "a\nb", "no control characters"),
    ("report.title", "\ud800", "a valid string"),
    ("data.category", "../x", "the name of one folder"),
    ("data.category", "..", "the name of one folder"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), REFUSED)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(key, value, allowed):
    message = refusal(changed({key: value}))
    assert message.startswith(f"params.yaml: {key} = {value!r}: ") and allowed in message
    assert message.count("params.yaml") == 1, "nothing but the one key is at fault"


def numbers(tree, prefix: str = "") -> list[str]:
    """Dotted names of all numbers of the tracked file."""
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += numbers(value, f"{prefix}{name}.")
        elif type(value) in (int, float):
            found.append(f"{prefix}{name}")
    return found


NOT_NUMBERS = (True, False, "1", [1], 10**30, -(10**30), 1e300, float("nan"))
OTHERS = {section: tree for section, tree in TREE.items() if section != "baselines"}  # see test_baseline.py


@pytest.mark.parametrize("key", numbers(OTHERS))
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_no_number_takes_what_is_none_or_out_of_range(key, value):
    assert refusal(changed({key: value})).startswith(f"params.yaml: {key} = ")


def without_limits(schema: dict, node: dict, path: str = "") -> list[str]:
    """What in a JSON schema has no limit on one of its sides, by name."""
    if "$ref" in node:
        return without_limits(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], path)
    found = []
    for kind in ("anyOf", "allOf", "oneOf"):
        for i, part in enumerate(node.get(kind, [])):
            found += without_limits(schema, part, f"{path}|{i}")
    for name, part in node.get("properties", {}).items():
        found += without_limits(schema, part, f"{path}.{name}")
    type_ = node.get("type")
    if type_ in ("integer", "number"):
        low, high = ({"minimum", "exclusiveMinimum"} & node.keys()), ({"maximum", "exclusiveMaximum"} & node.keys())
        found += [] if low and high else [path]
    if type_ == "string" and "enum" not in node and "const" not in node:
        found += [] if "maxLength" in node or "{0,99}" in node.get("pattern", "") else [path]
    if type_ == "array":
        found += ([] if "maxItems" in node else [path]) + without_limits(schema, node["items"], f"{path}[]")
    if type_ == "object" and isinstance(node.get("additionalProperties"), dict):
        found += without_limits(schema, node["additionalProperties"], f"{path}{{}}")
    return found


@pytest.mark.parametrize("model", [Schema, Plan, devices.Device])
def test_everything_has_limits_on_both_sides(model):
    schema = model.model_json_schema()
    runtimes = [".runtime[]", ".energy.source"]  # of a table
    assert [path for path in without_limits(schema, schema) if path not in runtimes] == []
    assert without_limits({}, {"properties": {"a": {"type": "integer", "minimum": 0}}}) == [".a"]


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5000, "x" * 300_000, [1] * 50_000, {"a": {}}, {1: 2}, {None: 1}, {(1, 2): 3}, {"\ud800": 1}, b"x", {1},
        [[[]]], datetime.date(2024, 1, 1), int("9" * 100), "\x1b[31m", "\u2028",
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
@pytest.mark.parametrize("key", ["seed", "data", "teacher.layers", "report.title", "variants", "baselines"])
def test_whatever_a_key_holds_the_line_is_short(key, value):
    assert len(refusal(changed({key: value}))) < 3000


@pytest.mark.parametrize(
    ("key", "value", "culprit", "allowed"),
    [
        ("teacher.layers", [0, -1], "teacher.layers.1 = -1", "greater than or equal to 0"),
        ("teacher.layers", [], "teacher.layers = []", "at least 1 item"),
        ("teacher.layers", [0, 1, 2, 3, 4], "teacher.layers = [0, 1, 2, 3, 4]", "at most 4 items"),
        ("teacher.backbone", [], "teacher.backbone = []", "at least 2 items"),
        ("teacher.backbone", ["a/b"], "teacher.backbone = ['a/b']", "at least 2 items"),
        ("teacher.backbone", list("abcde"), "teacher.backbone = ['a', 'b', 'c', 'd', 'e']", "at most 4 items"),
        ("teacher.backbone", ["a/b", 5], "teacher.backbone.1 = 5", "a valid string"),
        ("teacher.backbone", ["a/b", "simclr"], "teacher.backbone = ['a/b', 'simclr']", "simclr, which is trained"),
        ("teacher.backbone", ["a/b", "c/d"], "teacher.layers = [0, 1]", "2 backbones take 2 lists, such as"),
        ("teacher.layers", [[0, 1]], "teacher.layers = [[0, 1]]", "one backbone takes one list, such as [2, 3]"),
        ("teacher.layers", [[0], 1], "teacher.layers.1 = 1", "a valid list"),
        ("teacher.layers", [[0], []], "teacher.layers.1 = []", "at least 1 item"),
        ("teacher.layers", [[0], [-1]], "teacher.layers.1.0 = -1", "greater than or equal to 0"),
        ("benchmark.threads", [1, "two"], "benchmark.threads.1 = 'two'", "a valid integer"),
        ("variants", {}, "variants = {}", "at least 1 item"),
        ("variants", {"Big One": TREE["variants"]["pruned-fp32"]}, "variants.Big One = 'Big One'", "match pattern"),
    ],
)
def test_a_wrong_member_is_named(key, value, culprit, allowed):
    message = refusal(changed({key: value}))
    assert message.startswith(f"params.yaml: {culprit}: ") and allowed in message


@pytest.mark.parametrize("layers", [[[3, 5]], [[1], [2], [3]], [3, 5]])
def test_every_backbone_of_a_join_has_a_list_of_layers(layers):
    join = {"teacher.backbone": ["a/b", "c/d"]}
    message = refusal(changed(join | {"teacher.layers": layers}))
    assert message == (f"params.yaml: teacher.layers = {layers}: 2 backbones take 2 lists, such as [[3, 5], [2, 3]]")
    found = params.validate(changed(join | {"teacher.layers": [[3, 5], [2]]})).teacher
    assert found.backbone == ["a/b", "c/d"] and found.layers == [[3, 5], [2]]


@pytest.mark.parametrize("key", ["seeds", "teacher.bakbone", "data.synthetic.sise", "variants.student-int8.bits"])
def test_an_unknown_key_is_refused(key):
    assert refusal(changed({key: 1})) == f"params.yaml: {key}: unknown key; remove it or correct its name"


@pytest.mark.parametrize("key", ["seed", "student", "student.width", "data.path", "variants.student-int8.model"])
def test_a_missing_key_is_named(key):
    assert refusal(changed({key: MISSING})) == f"params.yaml: {key}: missing; add it"


@pytest.mark.parametrize(
    ("values", "section", "words"),
    [
        ({"distill.feature_weight": 0, "distill.mask_weight": 0.0}, "distill", "must not both be 0"),
        ({"variants.teacher-onnx.step": "float"}, "variants.teacher-onnx", "only a student is compressed"),
        ({"variants.student-fp32.format": "edgetpu"}, "variants.student-fp32", "edgetpu is made in int8 only"),
        ({"input.frames": 8}, "input", "only grey frames are stacked"),
        (
            {"input.frames": 4, "input.color": "grey", "input.fit": "letterbox"},
            "input",
            "4 frames: a clip is one square",
        ),
        ({"input.frames": 4, "input.color": "grey", "input.tiles": {"rows": 2}}, "input", "a clip is one square"),
    ],
)
def test_rules_across_keys(values, section, words):
    tree = changed(values)
    message = refusal(tree)
    assert message.startswith(f"params.yaml: {section} = ") and words in message
    for key, value in values.items():
        assert f"{key.rsplit('.', 1)[1]!r}: {value!r}" in message


def test_a_step_is_one_variants():
    message = refusal(changed({"variants.student-fp32.step": "int8"}))
    assert message == "params.yaml: variants: more than one has the step int8"


def test_every_error_is_told_at_once_in_one_line():
    message = refusal(changed({"student.width": "wide", "teacher.bakbone": 1, "seed": MISSING}))
    assert message.count("params.yaml: ") == 3
    for words in ("student.width = 'wide'", "teacher.bakbone: unknown key", "seed: missing"):
        assert words in message


FLOATS = sorted(f"{s}.{k}" for s, v in TREE.items() if isinstance(v, dict) for k, x in v.items() if type(x) is float)
OPEN = {
    "data.val_fraction",
    "data.test_fraction",
    "compile.false_alarm_rate",
    "defects.known",
}  # strictly between two whole numbers


@pytest.mark.parametrize("key", [k for k in FLOATS if k not in OPEN])
def test_a_whole_number_stands_for_a_float(key):
    """`dvc exp run -S student.width=1` writes an int."""
    section, name = key.split(".")
    number = 0 if key == "compress.prune_ratio" else 1
    value = getattr(getattr(params.validate(changed({key: number})), section), name)
    assert value == number and type(value) is float


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"defects.variant": "student-int8"}, "needs an embedding; set compile.embedding: 64"),
        ({"defects.variant": "mine", "compile.embedding": 64}, "defects.variant = mine: no variant; there are"),
        ({"defects.compare": "mine"}, "defects.compare = mine: no variant; there are"),
    ],
)
def test_types_need_a_variant_with_an_embedding(change, words):
    assert words in refusal(changed(change))


# the files


@pytest.mark.parametrize("content", [None, "", "- 1\n", "seed: [1\nthreads: 2\n", "a: b: c\n"])
def test_a_broken_file_is_one_line(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    if content is not None:
        (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^params\.yaml: ") as caught:
        params.load("teacher")
    assert "\n" not in str(caught.value)


def mappings(node):
    """Every mapping of a composed YAML document."""
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)


def test_tracked_file_is_in_block_style():
    assert all(
        not (node.flow_style and node.value) for node in mappings(yaml.compose((ROOT / "params.yaml").read_text()))
    )


def test_every_key_of_the_tracked_file_has_a_comment():
    """Its own, or the one of the section whose entries all hold the same keys (variants)."""
    text = (ROOT / "params.yaml").read_text()
    lines = text.splitlines()

    def without(node, path: tuple[str, ...] = (), inherited: bool = False):
        for key, value in node.value:
            has = inherited or len(lines[key.start_mark.line].partition(" # ")[2].strip()) > 5
            name = (*path, key.value)
            if isinstance(value, yaml.MappingNode):
                yield from without(value, name, has)
            elif not has:
                yield ".".join(name)

    assert not list(without(yaml.compose(text)))
    bare = "a: 1   # a comment\nb: 2\n"
    lines = bare.splitlines()
    assert list(without(yaml.compose(bare))) == ["b"]
