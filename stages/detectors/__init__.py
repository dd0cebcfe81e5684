"""Anomaly detectors: a kind is the module of its name, the others are what they share.

Those are the backbone, coreset selection, memory bank, score fusion and the networks. All kinds are fitted to good
samples alone, but for those that are `supervised`.
"""
