"""The fetch stage: download or generate the images, verify them, split them."""

from stages.common.parent import end_with_parent

end_with_parent()
