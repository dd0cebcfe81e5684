"""What runs a model on a machine, here or far away, and measures it there."""
