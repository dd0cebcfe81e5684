"""The accurate but heavy detector (PatchCore) that the student is distilled from."""

from stages.common.parent import end_with_parent

end_with_parent()
