"""Training with labels: warm-up and cosine decay, averaged weights, early stopping, and the epoch that validation
prefers.

What is judged and kept is the exponential moving average of the weights over about AVERAGED epochs (Polyak & Juditsky,
SIAM J. Control Optim. 1992): those of a single step jump by more than what tells one epoch from the next. A killed
training resumes after its last complete epoch.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from stages.common.progress import track
from stages.graph.tensors import diverged
from stages.training.checkpoint import Checkpoint, fingerprint, moments, restore_moments

# choices
WEIGHT_DECAY = 1e-4
CLIP = 5.0  # largest norm of the gradient
AVERAGED = 2.0  # epochs
TOLERANCE = 0.02  # of an F1 on some tens of defects, each of which changes it by .01
LABEL = "supervised"  # of the curves and checkpoints


def rate(step: int, steps: int, warm_up: int) -> float:
    """The share of the peak learning rate at `step` of `steps`: a line up to 1 over `warm_up` steps, then half a cosine
    down to 0 (Loshchilov & Hutter, SGDR, ICLR 2017)."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(
    model: nn.Module,
    batches: Callable[[int], Iterator],
    each: int,
    loss: Callable,
    judge: Callable[[], tuple[float, float]],
    settings,
    data,
    run,
) -> dict:
    """Trains `model` in place and leaves it with the weights of its best epoch; returns what that was.

    batches: those of an epoch, `each` in number. loss: of one batch. judge: (F1, -loss) on validation after an epoch;
    which epoch is the best: _State. settings: epochs, patience (epochs without a better one that end the training), lr
    and warm_up (a share of the steps). data: what fingerprints the training, beside the settings.
    """
    steps = settings.epochs * each
    warm_up = max(1, round(settings.warm_up * steps))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=WEIGHT_DECAY)
    file = Checkpoint(run.stage, LABEL, fingerprint(model, data, repr(settings), run.seed))
    state = _State(model, optimizer, AVERAGED * each)
    if saved := file.load():
        state.restore(saved)
        print(f"{run.stage}: {LABEL} goes on after {state.epoch} of {settings.epochs} epochs")
    for epoch in range(state.epoch, settings.epochs):
        if epoch - state.best > settings.patience:
            break
        model.train()
        total = 0.0
        for i, batch in enumerate(track(batches(epoch), f"epoch {epoch + 1}/{settings.epochs}", each)):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * rate(epoch * each + i, steps, warm_up)
            value = loss(batch)
            if not math.isfinite(now := value.item()):
                raise diverged(f"the loss is {now} in epoch {epoch + 1}")
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            state.average()
            total += now
        model.eval()
        found = state.judged(epoch, judge)
        run.log(epoch, supervised_loss=total / each, validation_f1=found[0], validation_loss=-found[1])
        print(f"{run.stage}: epoch {epoch + 1}: loss {total / each:.4f}, validation F1 {found[0]:.3f}", flush=True)
        file.save(**state.groups())
    best = state.kept[state.best]
    model.load_state_dict(best.weights)
    model.eval()
    return {"epoch": state.best + 1, "epochs": state.epoch, "f1": best.score[0]}


class _Kept(NamedTuple):
    """Averaged weights after an epoch, and what validation says of them: (F1, -loss)."""

    score: tuple[float, float]
    weights: dict[str, torch.Tensor]


class _State:
    """What a training goes on from: weights and moments, averaged weights, and those that may still be the best.

    Of the epochs whose F1 is within TOLERANCE of the highest, the best has the smallest loss. The highest may still
    rise, so of all epochs those are kept that no other beats in F1 and in loss.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, horizon: float):
        self.model, self.optimizer, self.horizon = model, optimizer, max(1.0, horizon)
        self.epoch, self.steps = 0, 0
        self.averaged = _copy(model)
        self.kept: dict[int, _Kept] = {}  # by epoch

    @property
    def best(self) -> int:
        """The best epoch; 0 before there is one."""
        least = max((one.score[0] for one in self.kept.values()), default=0.0) - TOLERANCE
        near = [epoch for epoch, one in self.kept.items() if one.score[0] >= least]
        return max(near, key=lambda epoch: self.kept[epoch].score[1], default=0)

    def average(self) -> None:
        """Takes the weights of one more step in; the first ones weigh more than the horizon asks for, so that the
        untrained weights are soon forgotten."""
        self.steps += 1
        share = max(1 / self.horizon, 1 / self.steps)
        for name, value in self.model.state_dict().items():
            mean = self.averaged[name]
            if mean.is_floating_point():
                mean.lerp_(value.detach().cpu(), share)
            else:
                mean.copy_(value)

    def judged(self, epoch: int, judge: Callable[[], tuple[float, float]]) -> tuple[float, float]:
        """What `judge` says of the averaged weights, which the model has meanwhile."""
        own = _copy(self.model)
        self.model.load_state_dict(self.averaged)
        found = judge()
        self.model.load_state_dict(own)
        self.epoch = epoch + 1
        if not any(_beats(one.score, found) for one in self.kept.values()):
            copy = {name: value.clone() for name, value in self.averaged.items()}
            self.kept = {k: one for k, one in self.kept.items() if not _beats(found, one.score)}
            self.kept[epoch] = _Kept(found, copy)
        return found

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        rows = [[epoch, *one.score] for epoch, one in self.kept.items()]
        progress = {
            "numbers": torch.tensor([self.epoch, self.steps]),
            "kept": torch.tensor(rows, dtype=torch.float64),
        }
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimizer": moments(self.optimizer),
            "progress": progress,
            **{f"kept{epoch}": one.weights for epoch, one in self.kept.items()},
        }

    def restore(self, saved: dict) -> None:
        self.model.load_state_dict(saved["model"])
        self.averaged = saved["averaged"]
        restore_moments(self.optimizer, saved["optimizer"])
        self.epoch, self.steps = saved["progress"]["numbers"].tolist()
        rows = saved["progress"]["kept"].tolist()
        self.kept = {int(epoch): _Kept((f1, loss), saved[f"kept{int(epoch)}"]) for epoch, f1, loss in rows}


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether neither F1 nor loss of `one` is worse; of equals the first one counts."""
    return one[0] >= other[0] and one[1] >= other[1]


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
