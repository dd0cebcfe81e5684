"""What detectors are trained with: the loop, checkpoints, synthetic defects, distillation targets, SimCLR."""
