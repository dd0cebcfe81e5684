"""Latency, memory and start-up of one variant on one device, measured there."""
