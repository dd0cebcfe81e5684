"""Tables, plots and one page about every variant on every device."""

from stages.common.parent import end_with_parent

end_with_parent()
