"""What `python -m hardware_runners` does; no stage imports it."""
