"""What learns from good samples and gives an anomaly map: one module per kind, found by the `kind` in its folder."""
