"""Training curves by DVCLive, in a folder apart from the model: plots and weights are separate outputs of a stage."""

import logging
from contextlib import contextmanager

from dvclive import Live


@contextmanager
def curves(stage: str):
    """Yields log(step, **values); the TSV files appear under reports/curves/<stage>."""
    logging.getLogger("dvclive").setLevel(logging.ERROR)
    live = Live(f"reports/curves/{stage}", save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False)

    def log(step: int, **values: float) -> None:
        live.step = step
        for name, value in values.items():
            live.log_metric(name, value, timestamp=False)

    with live:
        yield log
