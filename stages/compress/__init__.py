"""Compression of the student: channel pruning and quantization-aware training."""

from stages.common.parent import end_with_parent

end_with_parent()
