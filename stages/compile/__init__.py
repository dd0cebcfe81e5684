"""Export of trained detectors as deployed models, one folder per variant."""

from stages.common.parent import end_with_parent

end_with_parent()
