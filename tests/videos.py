"""Small videos for the tests, and what is in them."""

import struct

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


def retime(path, seconds):
    """Gives the frames of an MP4 file these durations, in place: a video of variable frame rate."""
    data = path.read_bytes()
    at = data.index(b"mdhd") + 4
    scale = struct.unpack(">I", data[at + 12 : at + 16])[0]
    entries = [(1, round(duration * scale)) for duration in seconds]
    data = data[: at + 16] + struct.pack(">I", sum(delta for _, delta in entries)) + data[at + 20 :]
    start = data.index(b"stts") - 4
    end = start + struct.unpack(">I", data[start : start + 4])[0]
    body = b"stts" + struct.pack(">II", 0, len(entries)) + b"".join(struct.pack(">II", *entry) for entry in entries)
    table = struct.pack(">I", len(body) + 4) + body
    grown = len(table) - (end - start)
    data = bytearray(data[:start] + table + data[end:])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = data.index(name, 0) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + grown)
    data = data.replace(b"edts", b"free")  # its duration is the old one
    assert data.index(b"mdat") < start  # so the offsets of the frames stay
    path.write_bytes(data)
    return path
