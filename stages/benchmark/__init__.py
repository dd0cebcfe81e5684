"""Latency, memory and start-up of one variant on one device, measured there."""

from stages.common.parent import end_with_parent

end_with_parent()
