"""Distillation of the teacher into a compact student."""

from stages.common.parent import end_with_parent

end_with_parent()
