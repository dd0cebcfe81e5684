"""Accuracy of each exported model file, scored by the code that runs on the device."""
