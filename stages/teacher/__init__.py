"""The accurate, heavy detector (PatchCore) that knows what good looks like."""

from stages.common.parent import end_with_parent

end_with_parent()
