"""Video through the model in three threads: capture, inference, and the caller's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import cv2

from edge.address import masked
from edge.app.buffer import Buffer, T
from edge.app.privacy import Guard
from edge.app.source import Source
from edge.app.trigger import Alarm, Continuity, Motion, Rate
from edge.arrays import Floats, Image
from edge.errors import UserError, reason
from edge.inference.detector import Detector, Prediction, load
from edge.preprocess import Ring, to_grey

LIVE_QUEUE = 2  # frames between two threads: a longer queue would show a live picture late
QUEUE, QUEUE_BYTES = 32, 16e6  # of a file: as many frames as pay off, and no more memory than this
WINDOW = 30  # inferences in the shown rate
PAUSE = 1.0  # seconds without a frame after which a clip begins anew: a choice; and at least three frames' time


@dataclass(frozen=True)
class Frame:
    """One guarded frame, uint8 [H, W, 3] RGB, and the latest verdict; `fresh` is False when the model was spared.

    clip: of a model of several frames, or with a state, whether it saw them all: "whole"; "starting": too few were seen
    yet, the first one stands in; "gap": some of those between them were lost, or spared where there is a state. Empty
    for a model of pictures.
    """

    index: int
    seconds: float
    image: Image = field(repr=False)
    prediction: Prediction
    alarm: bool
    fresh: bool
    fps: float
    clip: str = ""

    @property
    def score(self) -> float:
        return self.prediction.score

    @property
    def is_defect(self) -> bool:
        return self.prediction.is_defect

    @property
    def map(self) -> Floats:
        """The anomaly map, float32, as `Prediction.map`; computed where it is shown, not where time is short."""
        return self.prediction.map


class Stream:
    """Iterates over the `Frame`s of a source; `counts` says what became of every frame.

    A live source drops the oldest waiting frame when the model or the caller is too slow; a file waits for them.
    `motion` (grey values) and `rate` (per second) spare inferences; the alarm turns after `steady` verdicts in a
    row, and while it is about to, `motion` spares none.
    `stop` ends it in order: what was captured comes out. An error in a thread is raised here. Leaving the loop early
    needs `close`, or the `with` statement.
    """

    def __init__(self, detector: Detector, source: Source, motion: float = 0, rate: float = 0, steady: int = 5):
        self.detector, self.source = detector, source
        self._motion = Motion(motion) if motion else None
        self._rate = Rate(rate) if rate else None
        self._alarm = Alarm(steady)
        size = LIVE_QUEUE if source.realtime else int(min(QUEUE, max(LIVE_QUEUE, QUEUE_BYTES // source.frame_bytes)))
        self._captured: Buffer[tuple[int, float, Image]] = Buffer(size, not source.realtime)
        self._judged: Buffer[Frame] = Buffer(size, not source.realtime)
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._counts = {"inferred": 0, "skipped_by_rate": 0, "skipped_by_motion": 0, "out": 0}
        self._clips = detector.info.input.frames > 1 or bool(detector.info.state)
        self._counts |= {"starting": 0, "with_gap": 0} if self._clips else {}
        steps = (self._capture, self._captured), (self._infer, self._judged)
        self._threads = [threading.Thread(target=self._run, args=step, daemon=True) for step in steps]
        for thread in self._threads:
            thread.start()

    @property
    def counts(self) -> dict[str, int]:
        """After the end: in = out + withheld + dropped."""
        dropped = self._captured.dropped + self._judged.dropped
        return {**self.source.counts, **self._counts, "dropped": dropped}

    def stop(self) -> None:
        """No more frames are captured; those under way still come out. Safe in a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Ends the threads; frames under way count as dropped."""
        self.stop()
        for buffer in (self._captured, self._judged):
            buffer.close(discard=True)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._judged:
            self._counts["out"] += 1
            yield frame
        for thread in self._threads:
            thread.join()
        if self._error:
            raise self._error

    def _run(self, step: Callable[[Buffer[T]], None], target: Buffer[T]) -> None:
        try:
            step(target)
        except Exception as error:
            self._error = self._error or self._told(error)
            self._stop.set()
            self._captured.close(discard=True)
        finally:
            target.close()

    def _told(self, error: Exception) -> Exception:
        """OpenCV's exception as one line."""
        if not isinstance(error, cv2.error):
            return error
        return UserError(f"{masked(self.source.where)}: a frame that OpenCV can't work on: {reason(error)}")

    def _capture(self, target: Buffer[tuple[int, float, Image]]) -> None:
        for item in self.source.frames(self._stop):
            target.put(item)

    def _infer(self, target: Buffer[Frame]) -> None:
        detector, spec = self.detector, self.detector.info.input
        ring = Ring(spec.frames, spec.step) if spec.color == "grey" else None
        times: deque[float] = deque(maxlen=WINDOW)
        detector.reset()
        whole = Continuity(detector.info.reach, max(PAUSE, 3 / self.source.fps))
        for index, seconds, image in self._captured:
            if whole.see(index, seconds):
                detector.reset()
                if ring:
                    ring.clear()
            in_time = self._in_time(seconds)
            fresh = in_time and self._moved(image)  # both are true of the first frame
            if ring:  # a frame that is spared an inference is part of the next clip
                ring.push(detector.resize(to_grey(image)))
            if fresh:
                sample = ring.sample() if ring else detector.resize(image)
                prediction = detector.judge(sample, (image.shape[0], image.shape[1]))
                self._counts["inferred"] += 1
                times.append(perf_counter())
            elif detector.info.state:
                whole.left_out()
            alarm = self._alarm(prediction.is_defect) if fresh else self._alarm.active
            span = times[-1] - times[0]
            fps = (len(times) - 1) / span if span else 0.0
            clip = "" if not self._clips else whole.state if whole.begun else "starting"
            if clip in ("starting", "gap"):
                self._counts["starting" if clip == "starting" else "with_gap"] += 1
            target.put(Frame(index, seconds, image, prediction, alarm, fresh, fps, clip))

    def _in_time(self, seconds: float) -> bool:
        if self._rate and not self._rate(seconds):
            self._counts["skipped_by_rate"] += 1
            return False
        return True

    def _moved(self, image: Image) -> bool:
        # a verdict is not repeated for what rests: until the alarm agrees with it, each frame is looked at
        if self._motion and not self._motion(image, always=self._alarm.doubted):
            self._counts["skipped_by_motion"] += 1
            return False
        return True


def stream(
    model: str | Path | Detector,
    where: str | Path | int,
    *,
    threads: int = 1,
    delegate: str | None = None,
    guard: Guard | None = None,
    loop: bool = False,
    realtime: bool = False,
    motion: float = 0,
    rate: float = 0,
    steady: int = 5,
) -> Stream:
    """The stream of a model folder (or a loaded detector) over a video file, an address or a camera's number.

    `guard` hides faces; `motion`, `rate` and `steady` are those of `Stream`.
    """
    detector = model if isinstance(model, Detector) else load(model, threads, delegate)
    return Stream(detector, Source(where, guard, loop, realtime), motion, rate, steady)
