"""A training that was killed goes on after its last whole epoch and ends as if nothing had happened."""

import numpy as np
import pytest
import torch

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
