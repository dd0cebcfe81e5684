"""Anomaly detectors, fitted to good samples alone: a kind is the module of its name, the others are what they share.

Those are the backbone, coreset selection, memory bank, score fusion and the student's network.
"""
