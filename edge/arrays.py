"""Names of the arrays that go through `edge`, for annotations: strings when it runs, so that any numpy will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

Image: TypeAlias = "NDArray[np.uint8]"  # a picture, a frame or a sample
Mask: TypeAlias = "NDArray[np.bool_]"
Floats: TypeAlias = "NDArray[np.float32]"  # a map or an embedding
Raw: TypeAlias = "NDArray[np.int8 | np.uint8 | np.float32]"  # a tensor as a model takes or returns it
