"""The compact student, taught by the teacher."""

from stages.common.parent import end_with_parent

end_with_parent()
