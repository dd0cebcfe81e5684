"""What training may change of a student: its mask head alone, or its trunk and patch embeddings as well."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.progress import track
from stages.detectors import memory_bank
from stages.detectors.base import Run
from stages.detectors.student_init import pooled, project
from stages.detectors.student_network import EMBEDDING, PATCH_STRIDE, SOURCES, taps
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated
from stages.graph.network import Network
from stages.graph.tensors import flatten_patches, to_tensor
from stages.training.feature_noise import noisy
from stages.training.loop import minimise
from stages.training.targets import EmbeddingTargets
from stages.training.torch_setup import accelerator, mixed

CALIBRATION = 64  # pictures that an int8 trunk is calibrated on: a choice
NARROW_PASSES = 2  # of distill.epochs: a trunk that was made narrower has more to learn than a mask; a choice
FITTED = 128  # pictures that embeddings of a narrower trunk are fitted on before it is trained: a choice


def mask_loss(body: Network, names: list[str], features, areas: torch.Tensor, pick: torch.Tensor, spread):
    """Binary cross entropy of the mask against areas with a pasted defect or noise on the features.

    The head alone is computed: the trunk's batch norm between fine and deep features must not see the noise.
    """
    seed = int((pick * torch.arange(1, len(pick) + 1)).sum())  # of this batch, whose order follows the run's seed
    features, areas = noisy(features, spread, areas, seed)
    head = {node.name for node in memory_bank.needed(body, {"mask"})}
    head -= {node.name for node in memory_bank.needed(body, set(names))}
    found = body.continued(dict(zip(names, features, strict=True)), head)["mask"]
    return F.binary_cross_entropy_with_logits(found.float(), areas)


def train_head(body: Network, samples: np.ndarray, areas: torch.Tensor, settings: Any, run: Run) -> None:
    """Trains the mask head on features of the trunk, which stays as it is.

    Half of them are those of its int8 form: a head that has learned to find noise would find that of the rounding.
    """
    names = [taps(body)[source] for source in SOURCES]
    trunk = memory_bank.part(body, set(names))
    quantized = calibrated(fold(trunk), to_tensor(samples[:CALIBRATION]))
    found: list[list[torch.Tensor]] = [[], []]
    with torch.no_grad():
        for i in track(range(0, len(samples), 16), "features"):
            values = (quantized if i // 16 % 2 else trunk).activations(to_tensor(samples[i : i + 16]))
            for features, name in zip(found, names, strict=True):
                features.append(values[name].clone())
    features = [torch.cat(batches) for batches in found]
    spread = [feature.std((0, 2, 3), keepdim=True) for feature in features]
    for name, op in body.ops.items():
        op.requires_grad_(name not in trunk.ops and not name.startswith(("pool_", "embed_")))

    def loss(pick: torch.Tensor) -> torch.Tensor:
        return mask_loss(body, names, [feature[pick] for feature in features], areas[pick], pick, spread)

    data = (*features, areas)
    minimise(body, loss, data, settings.epochs, settings.batch, settings.lr, run.seed, run.stage, "distill", run.log)
    body.requires_grad_(True)


def train_all(body: Network, samples: np.ndarray, areas: torch.Tensor, train: np.ndarray, settings: Any, run: Run):
    """Trains trunk and heads: the patch embeddings against the teacher's, by mean squared error, and the mask."""
    size = train.shape[1] // PATCH_STRIDE, train.shape[2] // PATCH_STRIDE
    targets = EmbeddingTargets(run.source, train, size, EMBEDDING, lambda x: track(x, "principal components"))
    wanted = targets(samples, lambda x: track(x, "teacher embeddings"))
    names, device = [taps(body)[source] for source in SOURCES], accelerator()
    embedded = memory_bank.without_mask(body).ops.keys()
    body.to(device, memory_format=torch.channels_last)

    def loss(pick: torch.Tensor) -> torch.Tensor:
        with mixed(device):
            values = body.continued({"input": to_tensor(samples[pick.numpy()]).to(device)}, embedded)
        features = [values[name] for name in names]
        spread = [feature.detach().std((0, 2, 3), keepdim=True) for feature in features]
        target = wanted[pick].to(device)
        found = sum(F.mse_loss(values[f"embed_{source}"].float(), target) for source in SOURCES) / len(SOURCES)
        mask = mask_loss(body, names, features, areas[pick].to(device), pick, spread)
        return settings.feature_weight * found + settings.mask_weight * mask

    weights, data = (settings.feature_weight, settings.mask_weight), (samples, wanted, areas)
    epochs, batch = settings.epochs, settings.batch
    minimise(body, loss, data, epochs, batch, settings.lr, run.seed, run.stage, "distill", run.log, settings=weights)
    body.cpu()


def train_narrow(body: Network, wide: Network, samples: np.ndarray, train: np.ndarray, settings: Any, run: Run) -> None:
    """Trains a trunk that was made narrower to give the patch embeddings of the wide one, by mean squared error.

    Then its own principal components become its patch embeddings again: what it could not learn is no part of them.
    """
    wanted = memory_bank.embeddings(memory_bank.outputs(wide, samples, lambda x: track(x, "wide embeddings")))
    embedded = memory_bank.without_mask(body)
    for source in SOURCES:
        fit_embedding(embedded, source, samples[:FITTED], wanted[source][:FITTED])
    device = accelerator()
    embedded.to(device, memory_format=torch.channels_last)

    def loss(pick: torch.Tensor) -> torch.Tensor:
        with mixed(device):
            found = dict(zip(embedded.heads, embedded(to_tensor(samples[pick.numpy()]).to(device)), strict=True))
        pairs = [(found[f"embed_{source}"].float(), wanted[source][pick].to(device)) for source in SOURCES]
        return sum(F.mse_loss(*pair) for pair in pairs) / len(pairs)

    data = (samples, *wanted.values())
    epochs, batch = NARROW_PASSES * settings.epochs, settings.batch
    minimise(embedded, loss, data, epochs, batch, settings.lr, run.seed, run.stage, "narrow", run.log)
    body.load_state_dict(embedded.cpu().state_dict(), strict=False)
    project(body, train)


@torch.no_grad()
def fit_embedding(body: Network, source: str, samples: np.ndarray, wanted: torch.Tensor) -> None:
    """Gives a body the patch embedding whose values on the samples are nearest to `wanted` [N, D, h, w]: least
    squares."""
    features = torch.cat([flatten_patches(batch) for batch in pooled(body, samples, source)]).double()
    features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.double)], 1)
    found = torch.linalg.lstsq(features, flatten_patches(wanted).double(), driver="gelsd").solution
    conv = body.ops[f"embed_{source}"].conv
    conv.weight.copy_(found[:-1].t()[:, :, None, None])
    conv.bias.copy_(found[-1])
