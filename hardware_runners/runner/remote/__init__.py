"""What runs on the measured machine: the standard library, numpy and `edge`."""
