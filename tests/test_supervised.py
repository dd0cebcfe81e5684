"""The supervised detector: schedule, choices on validation, and what it learns."""

import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import one_line
from scipy.optimize import minimize
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from students import pictures

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.inference.modelinfo import _validation
from stages.common import verdicts
from stages.compile.validation import validate
from stages.detectors.base import Run
from stages.detectors.registry import load
from stages.detectors.supervised import Supervised, calibrate
from stages.detectors.supervised_network import LOGITS, PRIOR, new_network
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated
from stages.graph.tensors import to_tensor
from stages.training import classifier
from stages.training.platt import platt
from stages.training.torch_setup import prepare

SIZE = 64


@pytest.mark.parametrize("gap", [1.0, 20.0])
def test_platt_scaling_is_the_maximum_of_its_likelihood(gap):
    """Against scipy's optimum of Platt's objective; with a gap of 20 the classes don't overlap."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 30])
    logits = rng.normal(0, 1, 110) + gap * labels - 3
    target = np.where(labels == 1, 31 / 32, 1 / 82)

    def objective(values):
        z = values[0] * logits + values[1]
        return np.sum(np.logaddexp(0, z) - target * z)

    wanted = minimize(objective, [1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    found = platt(torch.tensor(logits), torch.tensor(labels))
    assert objective(found) <= objective(wanted) + 1e-6 and found == pytest.approx(wanted, rel=1e-2, abs=1e-2)
    mean = (1 / (1 + np.exp(-(found[0] * logits + found[1])))).mean()
    assert mean == pytest.approx(target.mean(), abs=1e-6), "calibrated in the large"


def test_calibration_is_folded_into_the_last_layer():
    images = to_tensor(pictures(3, SIZE, 1))
    network = new_network("scratch", 16, images)
    with torch.inference_mode():
        before = network.activations(images)[LOGITS]
        assert calibrate(network, 3.0, -0.5) == {"slope": 3.0, "offset": -0.5}
        torch.testing.assert_close(network.activations(images)[LOGITS], 3 * before - 0.5)
        assert calibrate(network, -2.0, 0.3) == {"slope": 1.0, "offset": 0.0}


def test_the_learning_rate_rises_then_follows_half_a_cosine():
    steps, warm_up = 100, 10
    found = [classifier.rate(step, steps, warm_up) for step in range(steps)]
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(found[10:], [0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)])
    assert found[55] == pytest.approx(0.5) and found[-1] < 0.001


def test_the_table_of_thresholds_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = np.round(np.clip(labels * 0.2 + rng.normal(0.2, 0.15, 300), 0, 1), 2)  # some equal a threshold
    rows = verdicts.table(labels, scores)
    assert [row["threshold"] for row in rows] == [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
    for row in rows:
        said = scores > row["threshold"]
        tn, fp, fn, tp = confusion_matrix(labels, said).ravel()
        assert (row["tn"], row["fp"], row["fn"], row["tp"]) == (tn, fp, fn, tp)
        wanted = precision_recall_fscore_support(labels, said, average="binary", zero_division=0)[:3]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(wanted)
    assert verdicts.table([0, 0], [0.0, 0.0])[0]["f1"] == 0.0
    assert verdicts.best(rows)["f1"] == max(row["f1"] for row in rows)
    assert verdicts.best(verdicts.table([0, 1], [0.0, 0.9]))["threshold"] == 0.3, "the middle of equals"


def test_compile_takes_the_threshold_of_the_best_f1_on_labelled_pictures():
    good, bad = np.zeros((6, 8, 8, 3), np.uint8), np.ones((4, 8, 8, 3), np.uint8)
    good[:, 0, 0, 0], bad[:, 0, 0, 0] = range(6), range(6, 10)
    known = dict(zip(range(10), [0.01, 0.02, 0.05, 0.12, 0.22, 0.26, 0.28, 0.33, 0.6, 0.9], strict=True))
    detector = SimpleNamespace(
        info=SimpleNamespace(state=()), predict=lambda x: SimpleNamespace(score=known[int(x[0, 0, 0])])
    )
    found = validate(detector, good, None, 0, labelled=bad)
    assert found["threshold"]["value"] == 0.25 or found["threshold"]["value"] == 0.3
    rows = {row["threshold"]: row["f1"] for row in found["validation"]["thresholds"]}
    assert rows[found["threshold"]["value"]] == max(rows.values()) and len(rows) == 9
    assert found["validation"]["auroc"] == 1.0 and found["validation"]["defects"] == 4
    assert Fields(Path("model.json"), found).object("validation", _validation).thresholds[0]["threshold"] == 0.1
    assert "best F1 (0.889) of the thresholds 0.1 to 0.5 on 6 good and 4 defective" in found["threshold"]["method"]


# the training


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)


def trained(scores, here_settings=None, stop_after=None):
    """A toy trained with given validation results; returns it, what was kept and the weights after each epoch."""
    torch.manual_seed(0)
    model, after = Toy(), []
    data = torch.randn(8, 2)
    settings = SimpleNamespace(epochs=len(scores), patience=3, lr=0.1, warm_up=0.1)

    def judge():  # what it sees are the averaged weights
        after.append(model.line.weight.detach().clone())
        if stop_after is not None and len(after) == stop_after + 1:
            raise KeyboardInterrupt
        return scores[state["epoch"]]

    state = {"epoch": 0}

    def batches(epoch):
        state["epoch"] = epoch
        yield from data.split(4)

    def loss(batch):
        return (model.line(batch) - 1).square().mean()

    run = Run(0, "toy", lambda *_, **__: None)
    return model, classifier.train(model, batches, 2, loss, judge, settings, [data], run), after


@pytest.mark.usefixtures("here")
def test_the_best_epoch_is_kept_and_patience_ends_the_training():
    scores = [(0.2, -1.0), (0.7, -0.9), (0.7, -0.5), (0.6, -0.1), (0.5, -0.1), (0.7, -0.6), (0.9, 0.0)]
    model, record, after = trained(scores)
    assert record == {"epoch": 3, "epochs": 6, "f1": 0.7}, "of equal F1 the smaller loss; three epochs without a better"
    assert torch.equal(model.line.weight, after[2]) and len(after) == 6
    scores = [(0.9, -1.0), (0.885, -0.5), (0.87, -0.1), (0.91, -0.8), (0.6, 0.0)]
    model, record, after = trained(scores)
    assert record["epoch"] == 4, "within .02 of .91 there are two: the second had a smaller loss but is out"
    assert torch.equal(model.line.weight, after[3])
    model, record, after = trained(scores[:3])
    assert record["epoch"] == 2 and torch.equal(model.line.weight, after[1]), "within .02 of .9 the smaller loss"


@pytest.mark.usefixtures("here")
def test_what_is_judged_is_the_moving_average_of_the_weights(monkeypatch):
    """Against the same training by hand: AdamW, and a mean that begins with the plain one."""
    monkeypatch.setattr(classifier, "AVERAGED", 1.5)  # of two steps: a horizon of three
    _, _, after = trained([(0.1 * i, 0.0) for i in range(5)])
    torch.manual_seed(0)
    model = Toy()
    data, mean, means = torch.randn(8, 2), None, []
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=classifier.WEIGHT_DECAY)
    for step in range(10):
        optimizer.param_groups[0]["lr"] = 0.1 * classifier.rate(step, 10, 1)
        optimizer.zero_grad()
        (model.line(data[step % 2 * 4 :][:4]) - 1).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), classifier.CLIP)
        optimizer.step()
        now = model.line.weight.detach().clone()
        mean = now if mean is None else mean + (now - mean) / min(step + 1, 3)
        means.append(mean)
    assert len(after) == 5
    for found, wanted in zip(after, means[1::2], strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("here")
def test_a_killed_training_goes_on_as_if_nothing_had_happened(capsys):
    scores = [(0.1 * i, 0.0) for i in range(6)]
    whole, record, _ = trained(scores)

    shutil.rmtree(".checkpoints")
    with pytest.raises(KeyboardInterrupt):
        trained(scores, stop_after=3)
    again, same, after = trained(scores)
    assert "goes on after 3 of 6 epochs" in capsys.readouterr().out and len(after) == 3
    assert record == same and torch.equal(whole.line.weight, again.line.weight)


# the detector


def spots(count: int, seed: int) -> np.ndarray:
    """Pictures with a bright or dark spot, whose place is drawn."""
    found, rng = pictures(count, SIZE, seed), np.random.default_rng(seed)
    for picture in found:
        y, x = rng.integers(8, SIZE - 20, 2)
        picture[y : y + 10, x : x + 10] = rng.choice([5, 250])
    return found


def spot_masks(count: int, seed: int) -> np.ndarray:
    """Where the spots of `spots` are."""
    rng, masks = np.random.default_rng(seed), np.zeros((count, SIZE, SIZE), bool)
    for mask in masks:
        y, x = rng.integers(8, SIZE - 20, 2)
        mask[y : y + 10, x : x + 10] = True
        rng.choice([5, 250])
    return masks


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A small detector from scratch that has learned spots in a few epochs."""

    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("run"))
    settings, _ = Supervised.example()
    settings = SimpleNamespace(**vars(settings) | {"trained": "all", "epochs": 6, "patience": 6, "lr": 0.003})
    prepare(0, 1)
    run = Run(0, "test", lambda *_, **__: None, defects=(spots(24, 11), spots(8, 12)), masks=spot_masks(24, 11))
    try:
        return Supervised.fit(pictures(40, SIZE, 1), pictures(10, SIZE, 2), settings, run)
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_it_learns_what_it_is_shown_and_marks_the_place(learned):
    good, bad = learned.maps(pictures(20, SIZE, 21)), learned.maps(spots(20, 22))
    scores = torch.cat([good, bad]).amax((1, 2)).numpy()
    labels = np.repeat([0, 1], 20)
    assert verdicts.best(verdicts.table(labels, scores))["f1"] > 0.85
    hits = 0
    for found, mask in zip(bad, spot_masks(20, 22), strict=True):
        row, column = divmod(int(found.argmax()), found.shape[1])
        hits += mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].any()
    assert hits >= 16 and learned.record["marked"] == 24
    assert learned.record["good"] == 40 and learned.record["defects"] == 24 and learned.record["shown"] == 24
    assert learned.record["alpha"] == pytest.approx(40 / 64)


@pytest.mark.slow
def test_saliency_is_the_gradient_of_the_logit(learned):
    sample = spots(1, 30)[0]
    found = learned.saliency(sample)
    assert found.shape == (SIZE, SIZE) and np.isfinite(found).all() and found.max() > 0
    y, x = np.unravel_index(found.argmax(), found.shape)

    def logit(image):
        with torch.inference_mode():
            return learned.network.activations(image)[LOGITS].double().amax().item()

    image = to_tensor(sample[None])
    slopes = []
    for channel in range(3):
        up, down = image.clone(), image.clone()
        up[0, channel, y, x] += 1e-3
        down[0, channel, y, x] -= 1e-3
        slopes.append(abs(logit(up) - logit(down)) / 2e-3)
    assert found[y, x] == pytest.approx(max(slopes), rel=0.1)


def test_int8_weights_that_calibration_changed_come_back(tmp_path):
    """Those of channels that a pretrained trunk does not use hold copies of others (spare_channels.py)."""
    samples = pictures(8, SIZE, 1)
    network = new_network("scratch", 16, to_tensor(samples))
    with torch.no_grad():
        network.layers["b0_project"].weight[:, :9] *= 1e-6
    made = Supervised(fold(network), calibrated(fold(network), to_tensor(samples)), {"calibration": 8})
    assert not torch.equal(made.quantized.network.layers["stem"].weight, made.network.layers["stem"].weight)
    made.save(tmp_path)
    back = load(tmp_path)
    assert torch.equal(back.maps(samples), made.maps(samples))
    pairs = zip(made.quantized.state_dict().values(), back.quantized.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_it_says_what_it_needs():
    settings, _ = Supervised.example()
    good = pictures(6, SIZE, 1)
    with pytest.raises(UserError, match=r"needs labelled defects to learn from; set data\.split: supervised") as error:
        Supervised.fit(good, good, settings, Run(0, "baseline-a", lambda *_, **__: None))
    one_line(error)
    run = Run(0, "a", lambda *_, **__: None, defects=(good[:0], good[:1]))
    with pytest.raises(UserError, match="defects of train: 0 pictures; at least 2"):
        Supervised.fit(good, good, settings, run)
    with pytest.raises(UserError, match=r"^settings\.weights = no/such/net: no such folder; give") as error:
        new_network("no/such/net", 16, to_tensor(good))
    assert "student" not in one_line(error)


@pytest.mark.assets
def test_a_pretrained_trunk_is_taken_over(assets):
    images = to_tensor(pictures(4, SIZE, 1))
    network = new_network(str(assets / "weights/mobilenet-v2-1.0-224"), 16, images)
    random = new_network("scratch", 16, images)
    assert not torch.equal(network.ops["stem"].conv.weight, random.ops["stem"].conv.weight)
    assert network.ops[LOGITS].conv.bias.item() == PRIOR
    with torch.inference_mode():
        assert torch.isfinite(network(images)).all()
