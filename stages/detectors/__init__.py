"""What learns from good samples and gives an anomaly map: one module per kind, which is the module's name."""
