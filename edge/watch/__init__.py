"""From frames to events that a person can act on: objects, tracks, zones, schedules, rules."""
