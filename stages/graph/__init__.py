"""The network as a list of nodes that pruning, quantization, export and its check all walk; its int8 simulation is
exact for XNNPACK's kernels."""
