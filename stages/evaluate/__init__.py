"""Accuracy of each exported model file, scored by the code that runs on the device."""

from stages.common.parent import end_with_parent

end_with_parent()
