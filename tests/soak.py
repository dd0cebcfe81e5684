"""An hour of looped video: `python tests/soak.py MODEL VIDEO FOLDER MINUTES [option of edge video ...]`.

Plays the video at its own speed with overlay and ten-minute segments, ends it by SIGTERM, and prints what became of the
frames, of the files, and of memory, threads and file handles from the first minute on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2

EVERY = 5  # seconds between two looks at the process
START = 60  # seconds that memory is given to settle


def look(pid: int) -> dict:
    """Resident memory in KiB, threads and open files of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"rss_kb": int(status["VmRSS"][0]), "threads": int(status["Threads"][0]), "files": files}


def frames_in(video: Path) -> int:
    """How many frames of a file can be decoded."""
    capture, count = cv2.VideoCapture(str(video)), 0
    while capture.grab():
        count += 1
    return count


def main() -> None:
    model, video, folder, minutes, *options = sys.argv[1:]
    command = [sys.executable, "-m", "edge", "video", model, video, "--loop", "--realtime", "--json", "--segment", "10"]
    command += ["--output", f"{folder}/soak.mp4", *options]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60 * float(minutes)
        start = time.monotonic() + START
        while time.monotonic() < end and process.poll() is None:
            time.sleep(EVERY)
            if time.monotonic() > start and process.poll() is None:
                found.append(look(process.pid))
        process.send_signal(signal.SIGTERM)
        summary = json.loads(process.communicate()[0])
    frames = summary["frames"]
    if not found:
        sys.exit("the video ended within the first minute")
    memory = [one["rss_kb"] * 1024 / 1e6 for one in found]
    played = [frames_in(path) for path in sorted(Path(folder).glob("soak*.mp4"))]
    balanced = frames["in"] == frames["out"] + frames["withheld"] + frames["dropped"]
    print(json.dumps(summary, indent=2))
    print(f"exit code {process.returncode}; in = out + withheld + dropped: {balanced}")
    print(f"{len(played)} files with {sum(played)} frames, written {summary['output']['written']}")
    print(f"memory MB: first {memory[0]:.1f}, least {min(memory):.1f}, most {max(memory):.1f}, last {memory[-1]:.1f}")
    print(f"most against the first minute: {max(memory) / memory[0] - 1:+.1%}")
    for key in ("threads", "files"):
        print(f"{key}: {found[0][key]} in the first minute, most {max(one[key] for one in found)}")


if __name__ == "__main__":
    main()
