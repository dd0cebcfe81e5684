"""What all stages share and needs no torch: params, dataset index, atomic outputs, metrics, progress."""
