"""The one training loop, for distillation, fine-tuning and quantization-aware training.

AdamW with a one-cycle learning rate (Smith & Topin, 2018). A killed training resumes after its last complete epoch.
"""

import math

import numpy as np
import torch

from stages.common.progress import track
from stages.graph.tensors import diverged
from stages.training.checkpoint import Checkpoint, fingerprint, moments, restore_moments

# choices; torch's defaults are 0.01 and 0.3, and no clipping
WEIGHT_DECAY = 1e-4
WARM_UP = 0.15  # the fraction of the steps in which the learning rate rises
CLIP = 5.0  # largest norm of the gradient


def minimise(
    model,
    loss,
    data,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    stage: str,
    label: str,
    log,
    after_epoch=None,
    settings=(),
):
    """Trains `model` in place: minimises `loss(indices)` over batches of `data`, in a new random order each epoch.

    data: the arrays and tensors [N, …] that the loss reads. settings: the numbers that it depends on; with `data` they
    tell checkpoints apart. lr: the peak learning rate. log: called as log(step, **values) about fifty times and after
    each epoch. after_epoch: called between epochs with the number of the one that ended; a resumed training calls it
    again.
    """
    if not epochs:
        return
    count = len(data[0])
    each = count // batch or 1
    steps = epochs * each
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1, pct_start=WARM_UP)
    file = Checkpoint(stage, label, fingerprint(model, data, epochs, batch, lr, seed, settings))
    history: list[tuple[int, float]] = []
    start = 0
    if saved := file.load():
        start = _restore(saved, model, optimizer, schedule, generator, history)
        print(f"{stage}: {label} goes on after {start // each} of {epochs} epochs")
        for step, value in history:
            log(step, **{f"{label}_loss": value})
    model.train()
    running, since = 0.0, 0
    order = iter(())
    for step in track(range(start, steps), label):
        if step % each == 0:
            order = iter(torch.randperm(count, generator=generator).split(batch))
            if step and after_epoch:
                after_epoch(step // each)
        value = loss(next(order))
        if not math.isfinite(now := value.item()):
            raise diverged(f"the loss of {label} is {now} at step {step + 1} of {steps}")
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        running, since = running + now, since + 1
        if (step + 1) % max(1, steps // 50) == 0 or (step + 1) % each == 0:
            history.append((step, running / since))
            log(step, **{f"{label}_loss": running / since})
            running, since = 0.0, 0
        if (step + 1) % each == 0:
            _save(file, model, optimizer, generator, history)
    model.eval()


def _save(file: Checkpoint, model, optimizer, generator, history) -> None:
    progress = {"generator": generator.get_state(), "history": torch.tensor(history, dtype=torch.float64)}
    file.save(model=model.state_dict(), optimizer=moments(optimizer), progress=progress)


def _restore(saved: dict, model, optimizer, schedule, generator, history: list) -> int:
    """Restores the state after the last complete epoch; returns the number of steps that were done."""
    model.load_state_dict(saved["model"])
    restore_moments(optimizer, saved["optimizer"])
    generator.set_state(saved["progress"]["generator"])
    history += [(int(step), float(value)) for step, value in np.asarray(saved["progress"]["history"])]
    done = history[-1][0] + 1
    schedule.load_state_dict(schedule.state_dict() | {"last_epoch": done - 1, "_step_count": done})
    schedule.step()  # sets the rate of the next step
    return done
