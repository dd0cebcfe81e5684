"""What the Edge TPU compiler does with an int8 file: compiled where there is a compiler, else predicted by rules."""
