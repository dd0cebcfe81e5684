"""Loops, synthetic defects and checkpoints that several stages train with."""
