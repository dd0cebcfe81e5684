"""EfficientAD (Batzner et al., WACV 2024): a student that imitates a teacher, and an autoencoder for the whole picture.

The teacher, a small patch description network, is distilled here from a pretrained backbone on the good pictures; the
paper does it once on ImageNet. Not as there, either: one augmented picture serves all three losses in one pass, which
halves the time, and there are no foreign pictures on which the student is kept from imitating.
"""

from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from edge.errors import UserError
from stages.common.progress import track
from stages.common.schema import Count, Epochs, Features, Rate
from stages.detectors.base import MAP, Export, Run, check_samples, check_square
from stages.detectors.efficientad_network import CHANNELS, MAPS, STRIDE, architecture, receptive_field, weigh
from stages.detectors.memory_bank import needed
from stages.detectors.network_detector import NetworkDetector
from stages.detectors.patchcore import SIMCLR, feature_extractor, patch_embeddings
from stages.graph.network import Network
from stages.graph.tensors import to_tensor
from stages.training.hard_features import hard_feature_loss
from stages.training.loop import minimise
from stages.training.synthetic_defects import vary
from stages.training.torch_setup import accelerator, mixed_anywhere

QUANTILES = (0.9, 0.995)  # of the good maps, which become 0 and 0.1 (the paper's a and b)
LIGHT = 0.2  # brightness, contrast or saturation changes by so much at most
POOL = 3  # neighbourhood of the backbone's locally aware features, as in PatchCore
# what the receptive field of a position lacks before and after its 4 x 4 pixels; mirrored pictures make up for it
BEFORE, AFTER = 14, 18


class Settings(Features):
    size: Literal["small", "medium"]
    images: Count  # training pictures, slightly shifted and brightened
    teacher_epochs: Annotated[int, Field(ge=1, le=10_000)]  # passes over them for the teacher
    epochs: Epochs  # and for student and autoencoder
    teacher_batch: Annotated[int, Field(ge=1, le=65536)] = 4
    batch: Annotated[int, Field(ge=1, le=65536)]  # of student and autoencoder (the paper's is 1)
    teacher_lr: Rate
    lr: Rate


class EfficientAD(NetworkDetector):
    """Teacher, student, autoencoder and the normalised map as one network."""

    kind = "efficientad"
    Settings = Settings

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Distils the teacher, trains student and autoencoder on `train`, scales both maps by quantiles on `val`."""
        check_samples(train, "train", 2)
        check_samples(val, "val")
        check_square(train, cls.kind)
        architecture(settings.size, train.shape[1])  # refuses a size before anything is trained
        source = feature_extractor(settings, train, run)
        rng = np.random.default_rng(run.seed)
        samples = np.stack([vary(rng, train[i % len(train)]) for i in range(settings.images)])
        targets = Targets(source, train)
        torch.manual_seed(run.seed)
        network = Network(architecture(settings.size, train.shape[1], targets.channels), train.shape[3])
        field = receptive_field(settings.size)
        print(f"{run.stage}: {settings.size} teacher of {targets.channels} features, receptive field {field} px")
        distil_teacher(network, targets, samples, settings, run)
        normalise_teacher(network, train)
        train_student(network, samples, settings, run)
        network.eval()
        weigh(network, dict.fromkeys(MAPS, (1.0, 0.0)))
        weigh(network, {part: quantile_scale(maps, part) for part, maps in good_maps(network, val).items()})
        return cls(network)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        settings = SIMCLR | {"size": "small", "images": 8, "teacher_epochs": 1, "epochs": 1, "batch": 4}
        return SimpleNamespace(**settings, teacher_batch=4, teacher_lr=0.001, lr=0.0003), None

    def export(self) -> Export:
        return Export(self.network, {"map": MAP})


class Targets:
    """What the teacher learns: locally aware features of a backbone, each channel with mean 0 and deviation 1 on the
    good pictures; of more channels than CHANNELS neighbouring ones are averaged, as in PatchCore."""

    def __init__(self, extractor, train: np.ndarray):
        self.extractor, self.device = extractor.to(accelerator()), accelerator()
        self.mean, self.deviation = 0.0, 1.0
        chunks = [to_tensor(train[i : i + 8]) for i in range(0, len(train), 8)]
        self.channels = self(chunks[0][:1], 1).shape[1]
        found = moments(self(chunk, chunk.shape[-1] // STRIDE) for chunk in track(chunks, "backbone"))
        self.mean, self.deviation = found

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, side: int) -> torch.Tensor:
        """[N, channels, side, side] for images [N, C, S, S] in 0..1."""
        found = patch_embeddings(self.extractor(images.to(self.device)), POOL)
        if found.shape[1] > CHANNELS:
            n, _, h, w = found.shape
            found = F.adaptive_avg_pool1d(found.permute(0, 2, 3, 1).reshape(n, h * w, -1), CHANNELS)
            found = found.reshape(n, h, w, CHANNELS).permute(0, 3, 1, 2)
        if found.shape[-1] > side:
            found = F.adaptive_avg_pool2d(found, side)
        else:
            found = F.interpolate(found, size=(side, side), mode="bilinear", align_corners=False)
        return (found - self.mean) / self.deviation


def moments(batches) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [1, D, 1, 1] of each channel of feature maps [n, D, h, w]."""
    total = squares = torch.zeros(())
    count = 0
    for batch in batches:
        batch = batch.double()
        total, squares = total + batch.sum((0, 2, 3), keepdim=True), squares + batch.square().sum((0, 2, 3), True)
        count += batch[:, 0].numel()
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=1e-12).sqrt().float()


def _part(network: Network, *outputs: str) -> Network:
    """The nodes that lead to `outputs`, with the very operations of `network`, so that they are trained in place."""
    part = Network(needed(network, set(outputs)), network.channels)
    part.ops = torch.nn.ModuleDict({node.name: network.ops[node.name] for node in part.nodes})
    return part


def distil_teacher(network: Network, targets: Targets, samples: np.ndarray, settings: Any, run: Run) -> None:
    """Trains the teacher in `network` to say what the backbone does of every position, those at the edges included."""
    teacher, device = _part(network, "teacher").to(accelerator(), memory_format=torch.channels_last), accelerator()

    def loss(pick: torch.Tensor) -> torch.Tensor:
        images = to_tensor(samples[pick.numpy()]).to(device)
        wanted = targets(images, images.shape[-1] // STRIDE)
        with mixed_anywhere(device):
            found = teacher(F.pad(images, (BEFORE, AFTER, BEFORE, AFTER), mode="reflect"))
        return F.mse_loss(found.float(), wanted)

    hyper = (settings.teacher_epochs, settings.teacher_batch, settings.teacher_lr, run.seed)
    minimise(teacher, loss, (samples, targets.mean), *hyper, run.stage, "teacher", run.log)
    teacher.cpu()


@torch.no_grad()
def normalise_teacher(network: Network, train: np.ndarray) -> None:
    """Gives the teacher's outputs mean 0 and deviation 1 on the good pictures, by the weights of its last layer."""
    teacher = _part(network, "teacher").to(accelerator()).eval()
    batches = (teacher(to_tensor(train[i : i + 8]).to(accelerator())).cpu() for i in range(0, len(train), 8))
    mean, deviation = (value.flatten() for value in moments(batches))
    teacher.cpu()
    conv = network.layers["teacher"]
    conv.weight.div_(deviation.view(-1, 1, 1, 1))
    conv.bias.sub_(mean).div_(deviation)


def train_student(network: Network, samples: np.ndarray, settings: Any, run: Run) -> None:
    """Trains student and autoencoder: the hardest features of the teacher, the autoencoder's of the teacher, and the
    student's of the autoencoder, which doesn't learn from it (algorithm 1 of the paper)."""
    device, names = accelerator(), ("teacher", "autoencoder", "student_local", "student_global")
    whole = _part(network, *names).to(device, memory_format=torch.channels_last)
    for name, op in whole.ops.items():
        op.requires_grad_(not name.startswith("teacher"))
    epoch = 0

    def begin(number: int) -> None:
        nonlocal epoch
        epoch = number

    def loss(pick: torch.Tensor) -> torch.Tensor:
        images = lit(to_tensor(samples[pick.numpy()]), light(run.seed, epoch, pick)).to(device)
        with mixed_anywhere(device):
            values = whole.activations(images)
        teacher, coded, local, whole_view = (values[name].float() for name in names)
        return hard_feature_loss(local, teacher) + F.mse_loss(coded, teacher) + F.mse_loss(whole_view, coded.detach())

    hyper = (settings.epochs, settings.batch, settings.lr, run.seed, run.stage, "efficientad", run.log)
    minimise(whole, loss, (samples,), *hyper, after_epoch=begin)
    whole.cpu().requires_grad_(True)


def light(seed: int, epoch: int, pick: torch.Tensor) -> torch.Generator:
    """Random numbers of the pictures `pick` in that epoch, the same when a killed training goes on."""
    state = np.random.SeedSequence([seed, epoch, *pick.tolist()]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def lit(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images [N, C, S, S] in 0..1, of each brightness, contrast or saturation changed by a factor of 0.8 to 1.2."""
    count = len(images)
    factor = (1 + LIGHT * (2 * torch.rand(count, generator=generator) - 1)).view(-1, 1, 1, 1)
    which = torch.randint(3, (count,), generator=generator).view(-1, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    centre = torch.where(which == 0, torch.zeros_like(grey), torch.where(which == 1, grey.mean((2, 3), True), grey))
    return (centre + (images - centre) * factor).clamp(0, 1)


@torch.inference_mode()
def good_maps(network: Network, val: np.ndarray) -> dict[str, np.ndarray]:
    """Both maps of the good samples `val`, without the positions at the edges that no convolution reached."""
    found: dict[str, list] = {part: [] for part in MAPS}
    inner = slice(4, -4)
    for i in track(range(0, len(val), 4), "good maps"):
        values = network.activations(to_tensor(val[i : i + 4]))
        for part, maps in found.items():
            maps.append(values[f"map_{part}"][:, 0, inner, inner].numpy())
    return {part: np.concatenate(maps) for part, maps in found.items()}


def quantile_scale(maps: np.ndarray, part: str = "map") -> tuple[float, float]:
    """Scale and shift of half of a normalised map: its quantiles a and b on good pictures become 0 and 0.1, and the
    mean of both maps is the map. UserError where they are equal."""
    low, high = np.quantile(maps, QUANTILES)
    if not high > low:
        raise UserError(f"training diverged: the {part} map is {low} on all good pictures; use a lower learning rate")
    scale = 0.5 * 0.1 / (high - low)
    return float(scale), float(-scale * low)
