"""`python -m experiments kernels VARIANT...`: what int8 TFLite files are worth on other kernels than XNNPACK's.

Every test picture is scored on each device with its default kernels, with TFLite's optimized ones and with the
reference ones. `--device` names devices of the inventory, e.g. the one that hardware_runners/emulate_arm64.sh makes.
"""

from pathlib import Path

import numpy as np

from edge.errors import UserError
from edge.inference import scoring
from edge.inference.kernels import KERNELS
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import ModelInfo
from edge.inference.modelspec import Grid
from experiments import provenance
from hardware_runners.runner import devices, transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.remote.score import unpack
from stages.common import atomic, dataset, params
from stages.common.masks import load_mask, shrink
from stages.common.metrics import difference, image_auroc
from stages.evaluate.curves import Curves, Thresholds
from stages.evaluate.metrics import decision_metrics
from stages.report.formatting import NONE, markdown_list, markdown_table, score
from stages.report.summary import read_json

MODELS, TEST, OUT = Path("artifacts/models"), Path("data/test"), Path("reports/kernels.json")
TITLES = {"builtin": "TFLite's optimized kernels", "reference": "TFLite's reference kernels"}
HEAD = (
    "Variant",
    "Device",
    "Kernels",
    "Outputs equal",
    "Within one step",
    "Largest difference",
    "AUROC",
    "AUPRO",
    "F1",
)


class Truth:
    """The test pictures and what is known of them, at the resolution of a model."""

    def __init__(self, info: ModelInfo, fpr_limit: float):
        self.items = dataset.read_index(TEST)
        self.info, self.fpr_limit = info, fpr_limit
        self.files = {item.path: (TEST / item.path).read_bytes() for item in self.items}
        self.labels = np.array([item.label for item in self.items], bool)
        if not self.labels.any() or self.labels.all():
            raise UserError(f"{TEST}: an AUROC needs good and defect pictures")

    def judge(self, found: dict) -> tuple[dict, np.ndarray, np.ndarray]:
        """The accuracy of what a device returned, its maps as the model gives them, and its verdicts."""
        output = next(output for output in self.info.outputs if output.meaning == "map")
        raw = np.stack([unpack(found["maps"][item.path], output.height, output.width) for item in self.items])
        scores = np.array([found["scores"][item.path] for item in self.items])
        verdicts = scores > self.info.threshold
        f1 = decision_metrics(self.labels, verdicts)["f1"]
        return {"image_auroc": image_auroc(self.labels, scores), "aupro": self.aupro(raw), "f1": f1}, raw, verdicts

    def aupro(self, raw: np.ndarray) -> float | None:
        """None where no defect has a mask."""
        size, sigma = (self.info.input.height, self.info.input.width), self.info.score.sigma
        known, thresholds = [], Thresholds()
        for item, one in zip(self.items, raw, strict=True):
            mask = load_mask(TEST, item, *size)
            if mask is not None:
                found = scoring.anomaly_map(one, *size, sigma)
                thresholds.add(found)
                known.append((found, mask if mask.shape == size else shrink(mask, *size)))
        curves = Curves(thresholds.drawn())
        for found, mask in known:
            curves.add(found, mask)
        return curves.areas(self.fpr_limit)["aupro"]


def measure(variants: list[str], chosen: list[Device], fpr_limit: float) -> dict:
    """A row for each variant, device and kind of kernels; all are compared with the default kernels of the first
    device."""
    rows = []
    for variant in variants:
        info, grid = checked(variant)
        truth, first = Truth(info, fpr_limit), None
        for device in chosen:
            for kernels in (None, *KERNELS):
                print(f"{variant} on {device.name}, {kernels or 'default'} kernels", flush=True)
                found = transports.score(device, MODELS / variant, truth.files, "kernels", kernels, maps=True)
                accuracy, raw, verdicts = truth.judge(found)
                steps = np.rint(raw / np.float32(grid.scale)).astype(int)
                first = first or (steps, verdicts)
                rows.append(
                    {
                        "variant": variant,
                        "sha256": info.sha256,
                        "device": device.name,
                        "emulated": device.emulated,
                        "runtime": f"{found['runtime']['name']} {found['runtime']['version']}",
                        "kernels": kernels or found["runtime"]["delegate"] or "builtin",
                        **accuracy,
                        **difference(steps, first[0]),
                        "verdicts_that_differ": int((verdicts != first[1]).sum()),
                    }
                )
    machines = {device.name: transports.probe(device)["machine"] for device in chosen}
    keys = ("architecture", "cpu", "int8")
    about = {name: {key: machine.get(key) for key in keys} for name, machine in machines.items()}
    return {"images": len(truth.files), "aupro_fpr_limit": fpr_limit, "machines": about, "rows": rows}


def checked(variant: str) -> tuple[ModelInfo, Grid]:
    """The description of an int8 TFLite file that takes pictures, and the grid of its map; UserError for any other."""
    info = open_model(MODELS / variant)
    if info.format != "tflite" or info.quantization is None:
        raise UserError(f"{variant}: is no int8 TFLite file; those of other kinds have no kernels to choose between")
    if info.input.frames > 1:
        raise UserError(f"{variant}: takes clips of {info.input.frames} frames; kernels are compared on pictures")
    if info.input.resize != "stretch" or info.input.tiles.count > 1:
        raise UserError(f"{variant}: takes tiles or letterboxed pictures; kernels are compared without")
    return info, info.quantization.output


def markdown(folder: Path) -> str:
    """The table of `folder`/kernels.json."""
    found = read_json(folder / "kernels.json")
    rows = []
    for row in found["rows"]:
        device = row["device"] + (" (emulated)" if row["emulated"] else "")
        same = [f"{row[key]:.1%}" for key in ("exact", "within_1")]
        accuracy = [score(row["image_auroc"]), score(row["aupro"]), score(row["f1"])]
        name = TITLES.get(row["kernels"], row["kernels"])
        rows.append([row["variant"], device, name, *same, row["max_lsb"], *accuracy])
    base, notes = found["rows"][0], []
    for name, machine in found["machines"].items():
        notes.append(f"{name}: {machine['architecture']}, {machine['cpu'] or NONE}, int8: {machine['int8'] or NONE}.")
    notes.append(
        f"Compared with {base['kernels']} on {base['device']}, {found['images']} test pictures, in steps of the "
        f"output's grid; {base['runtime']}. AUPRO at the model's resolution."
    )
    return f"{markdown_table(HEAD, rows)}\n\n{markdown_list([*notes, provenance.sentence(found)])}"


def add_arguments(parser) -> None:
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="exported int8 TFLite files, e.g. student-int8")
    parser.add_argument("--device", nargs="+", default=["local"], metavar="NAME", help="of the inventory (local)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    limit = params.validate(params.read_yaml("params.yaml")).evaluate.aupro_fpr_limit
    chosen = [devices.read(name) for name in arguments.device]
    found = measure(arguments.variants, chosen, limit) | {"code": provenance.current()}
    atomic.write_json(arguments.output, found)
    print(f"wrote {arguments.output}")
