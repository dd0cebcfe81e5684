"""What the student is compared with: any detector kind, fitted to the same samples."""

from stages.common.parent import end_with_parent

end_with_parent()
