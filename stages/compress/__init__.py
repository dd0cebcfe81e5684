"""Channel pruning, then quantization-aware training."""
