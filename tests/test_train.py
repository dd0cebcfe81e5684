"""A training that was killed goes on after its last whole epoch and ends as if nothing had happened."""

import numpy as np
import pytest
import torch
from students import WEIGHTS, lively, pictures, smooth

from edge.errors import UserError
from stages.detectors import memory_bank, score_fusion
from stages.detectors.student_network import SOURCES
from stages.graph.grids import grid
from stages.graph.prune import prune
from stages.training import checkpoint
from stages.training.loop import minimise

EPOCHS, BATCH, COUNT = 4, 8, 40


class Cut(Exception):
    pass


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()).to(
        memory_format=torch.channels_last
    )


def samples(seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(COUNT, 3, 6, 6)).astype(np.float32), torch.from_numpy(rng.random((COUNT, 64)) > 0.5)


def train(data, cut_at=None, weight=1.0):
    """State and log of a training, which ends in Cut at a step; and how often the loss was asked."""
    model, log, ended, asked = network(), [], [], 0
    images, wanted = data

    def loss(pick):
        nonlocal asked
        asked += 1
        if cut_at is not None and asked > cut_at:
            raise Cut
        output = model(torch.from_numpy(images[pick.numpy()]))
        return weight * torch.nn.functional.mse_loss(output, wanted[pick].float())

    def record(step, **values):
        log.append((step, values))

    minimise(model, loss, data, EPOCHS, BATCH, 0.01, 3, "distill", "distill", record, ended.append, (weight,))
    return model.state_dict(), log, ended, asked


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_resumed_equals_uninterrupted(tmp_path, capsys):
    whole, log, ended, asked = train(samples())
    assert asked == EPOCHS * COUNT // BATCH and ended == [1, 2, 3]
    checkpoint.clear("distill")
    with pytest.raises(Cut):
        train(samples(), cut_at=13)  # in the third epoch
    resumed, resumed_log, resumed_ended, more = train(samples())
    assert "distill goes on after 2 of 4 epochs" in capsys.readouterr().out
    assert more == 10 and resumed_ended == [2, 3], "the first two epochs are not repeated"
    assert equal(whole, resumed) and resumed_log == log


def test_a_finished_training_is_not_repeated_until_it_is_cleared():
    whole, log, *_ = train(samples())
    again, again_log, _, asked = train(samples())
    assert asked == 0 and equal(whole, again) and again_log == log
    checkpoint.clear("distill")
    assert not list(checkpoint.FOLDER.rglob("*.safetensors")) and train(samples())[3] == 20


def test_other_data_or_a_damaged_file_starts_anew():
    with pytest.raises(Cut):
        train(samples(), cut_at=13)
    (file,) = checkpoint.FOLDER.rglob("*.safetensors")
    assert train(samples(seed=9))[3] == 20
    assert not file.exists(), "the training of other data took its place"
    with pytest.raises(Cut):
        train(samples(), cut_at=13)
    file.write_bytes(file.read_bytes()[:-40])
    assert train(samples())[3] == 20


def test_another_loss_starts_anew():
    train(samples())
    assert train(samples(), weight=2.0)[3] == 20


# a training that diverges


def diverges():
    return pytest.raises(UserError, match=r"^training diverged: [^\n]+; use a lower learning rate \(distill\.lr")


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training(weight):
    with diverges() as caught:
        train(samples(), weight=weight)
    assert "the loss of distill is" in str(caught.value) and "at step 1 of 20" in str(caught.value)


@pytest.mark.parametrize("value", [0.0, float("nan"), 1e38])
def test_a_network_that_diverged_is_one_line_wherever_it_shows(value):
    """A head that always says the same (or something infinite): by it something is divided in each of these places."""
    for head in ("mask", "embed_fine", "embed_deep"):
        body = lively(0.25)
        with torch.no_grad():
            body.ops[head].conv.weight.fill_(value)
            body.ops[head].conv.bias.zero_()
        with diverges():
            prune(body, 0.2, smooth(4, 64))
        val, banks = pictures(4, 64), dict.fromkeys(SOURCES, memory_bank.Bank(torch.zeros(8, 32), torch.zeros(8)))
        parts = memory_bank.parts(body, banks, val)
        with diverges():
            score_fusion.choose_weights(parts, {"spot": parts})
        with diverges():
            memory_bank.with_banks(body, body, banks, val, WEIGHTS)


@pytest.mark.parametrize("ends", [(float("nan"), 1.0), (0.0, float("inf")), (float("-inf"), 0.0)])
def test_a_range_that_is_not_finite_has_no_grid(ends):
    with diverges():
        grid(*ends)
