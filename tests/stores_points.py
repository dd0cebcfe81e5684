"""Made points for the tests of stores; what kills a writer imports little else."""

import hashlib

import numpy as np

from stages.defects.stores.point import Model

DIMENSION, COUNT = 16, 300
MODEL = Model(hashlib.sha256(b"one").hexdigest(), DIMENSION)
OTHER = Model(hashlib.sha256(b"another").hexdigest(), DIMENSION)
TYPES = ("scratch", "hole", "Fleck, groß")


def points(count=COUNT, seed=0):
    """float32 [count, DIMENSION] of unit length, and their payloads, of which a fifth has no product, line and time."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    payloads = []
    for i in range(count):
        found = {"type": TYPES[i % 3], "picture": f"set {seed}/{i // 2}.png", "box": [i % 2, 2, 3, 4], "score": 0.5}
        if i % 5:
            found |= {
                "product": f"p{i % 7}",
                "line": f"line {i % 2}",
                "time": f"2026-05-{1 + i % 28:02}T06:30:00+02:00",
            }
        payloads.append(found)
    return vectors, payloads


VECTORS, PAYLOADS = points()
