"""The one training loop: AdamW, one-cycle learning rate, a curve."""

import torch

from stages.common.progress import track


def minimise(model, loss, count: int, epochs: int, batch: int, lr: float, seed: int, label: str, log, after_epoch=None):
    """Trains `model` in place on `loss(indices)` over `count` samples in random order.

    log: called as log(step, **values) about fifty times. after_epoch: called with the number of the epoch that ended.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (count // batch or 1)
    if not epochs:
        return
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1, pct_start=0.15)
    model.train()
    running, since = 0.0, 0
    order = iter(())
    for step in track(range(steps), label):
        if step % (steps // epochs) == 0:
            order = iter(torch.randperm(count, generator=generator).split(batch))
            if step and after_epoch:
                after_epoch(step // (steps // epochs))
        value = loss(next(order))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        running, since = running + value.item(), since + 1
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            log(step, **{f"{label}_loss": running / since})
            running, since = 0.0, 0
    model.eval()
