"""Small videos for the tests, and what is in them."""

import cv2
import numpy as np


def write(path, frames, size=(64, 48), fps=25):
    """A video whose frame i is grey, of the value that `frames` gives."""
    file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size)
    for value in frames:
        file.write(np.full((*size[::-1], 3), value, np.uint8))
    file.release()
    return path


def values(path):
    """The mean grey value of each frame of a video."""
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        fine, frame = capture.read()
        if not fine:
            return found
        found.append(frame.mean())
