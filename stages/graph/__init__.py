"""The int8-exact network: a list of nodes that pruning, quantization, export and its check all walk."""
