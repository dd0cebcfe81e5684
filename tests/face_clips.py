"""Which faces a second detector sees in stored frames: `face_clips.py FOLDER`, run with OpenCV 4.

FOLDER holds faces.json (by video, the boxes that the first detector found in its raw frames) and arrays of frames,
VIDEO--NAME.npy [N, H, W, 3] uint8 RGB. Prints for each array how often a Haar cascade sees one of its faces."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from face_variants import cascades, found_again


def main() -> None:
    folder = Path(sys.argv[1])
    faces = json.loads((folder / "faces.json").read_text())
    detectors = cascades()
    seen = {}
    for path in sorted(folder.glob("*--*.npy")):
        boxes = faces[path.name.split("--")[0]]
        seen[path.stem] = [sum(found_again(frame, boxes, detectors)) for frame in np.load(path)]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
