"""Channel pruning that really removes channels (torch-pruning), batch norm recalibrated after each step."""

from dataclasses import replace

import torch
import torch_pruning

from stages.networks.batchnorm import recalibrate
from stages.networks.student import Student

MAX_LAYER_RATIO = 0.5  # a layer that lost this share is left alone, whatever the global ranking says


def prune(student: Student, ratio: float, steps: int, images: torch.Tensor) -> Student:
    """The student without the `ratio` least important channels (group L2 norm, ranked over the whole network)."""
    if not ratio:
        return student
    pruner = torch_pruning.MagnitudePruner(
        student,
        images[:1],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=MAX_LAYER_RATIO,
        iterative_steps=steps,
        round_to=8,
        ignored_layers=[student.ops[name] for name in student.heads],
    )
    for _ in range(steps):
        pruner.step()
        recalibrate(student, images)
    nodes = [
        replace(n, channels=student.ops[n.name].conv.out_channels) if n.kind == "conv" else n for n in student.nodes
    ]
    pruned = Student(nodes)
    pruned.load_state_dict(student.state_dict())
    return pruned.eval()
