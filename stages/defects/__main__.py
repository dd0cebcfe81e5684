"""`python -m stages.defects`: which types of defects the exported file of a variant tells apart, and its catalogue.

With a command (`push`, `query`, `label`, …; see --help) it works on a store of labelled defects instead.
"""

import sys
from pathlib import Path

import numpy as np

from stages.common import atomic
from stages.common.stage import main

OUT = Path("artifacts/defects")


def run(params) -> None:
    """Writes artifacts/defects; of a run without `defects.variant` no more than that there is none."""
    with atomic.directory(OUT) as folder:
        if params.defects.variant is None:
            atomic.write_json(folder / "result.json", {"variant": None})
            return
        from stages.defects import examples  # what runs models and draws is imported only where it is needed
        from stages.defects.study import study

        result, kept = study(params, folder)
        atomic.write_json(folder / "result.json", result)
        with open(folder / "embedded.npz", "wb") as stream:
            np.savez(stream, **kept)  # type: ignore[arg-type]
        examples.draw(kept, folder / "examples.png", params.input.depth)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from stages.defects import commands

        commands.main(sys.argv[1:])
    else:
        main("defects", run)
