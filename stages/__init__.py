"""What makes the model: one package per stage of dvc.yaml."""
