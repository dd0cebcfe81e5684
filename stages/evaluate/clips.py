"""Accuracy of the scores of clips, frame by frame: AUC, events, alarms, and what other protocols would make of them.

The figure that counts is the AUC over all frames of all clips (micro) of the scores as they are. Many papers rescale
each clip by its own minimum and maximum, which needs the whole clip before the first score, or average the AUC of each
clip (macro), padding clips without a normal frame; both are given for comparison alone, with what they add.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.inference.scoring import auroc

SMOOTHING = 0.8  # of the causal mean: what is left of the score before, a choice (a time constant of 4.5 frames)
STEADY = 5  # frames in a row that turn an alarm, as `edge video --steady` has it


@dataclass(frozen=True)
class Clip:
    """One clip: labels bool [T] and scores float [T] of its frames, in order."""

    name: str
    labels: np.ndarray
    scores: np.ndarray


def by_clip(items: Sequence, scores: np.ndarray) -> list[Clip]:
    """The clips of the items of an index, whose scores [N] are given in the same order."""
    rows: dict[str, list[tuple[int, int, float]]] = {}
    for item, score in zip(items, scores, strict=True):
        rows.setdefault(item.clip, []).append((item.frame, item.label, float(score)))
    found = []
    for name, frames in sorted(rows.items()):
        ordered = np.array(sorted(frames))
        found.append(Clip(name, ordered[:, 1] > 0, ordered[:, 2]))
    return found


def smoothed(scores: np.ndarray) -> np.ndarray:
    """An exponential mean of the scores up to each frame: it needs no frame that is still to come."""
    found, mean = [], float(scores[0])
    for score in scores:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(score)
        found.append(mean)
    return np.array(found)


def micro(clips: Sequence[Clip], change=lambda scores: scores) -> float | None:
    """The AUC over all frames of all clips, whose scores are changed clip by clip; None without both labels."""
    scores = np.concatenate([change(clip.scores) for clip in clips])
    return auroc(np.concatenate([clip.labels for clip in clips]), scores)


def rescaled(scores: np.ndarray) -> np.ndarray:
    """The scores of a clip from 0 to 1, by its own extremes."""
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread else np.zeros_like(scores)


def padded_macro(clips: Sequence[Clip]) -> float:
    """The mean AUC of each clip, where every clip is given one more normal frame of score 0 and one more anomalous one
    of its maximum, after scaling (AccI-VAD's protocol, Reiss & Hoshen, 2022): clips of one label count too."""
    found = []
    for clip in clips:
        scores = rescaled(clip.scores)
        labels = np.concatenate([[False], clip.labels, [True]])
        found.append(auroc(labels, np.concatenate([[0.0], scores, [1.0]])) or 0.0)
    return float(np.mean(found))


def frame_auc(clips: Sequence[Clip]) -> dict:
    """The frame AUCs, those of each clip that has both labels, and under `comparison` what is not comparable."""
    raw = micro(clips)
    of_clips = {clip.name: auroc(clip.labels, clip.scores) for clip in clips}
    own = [value for value in of_clips.values() if value is not None]
    compared = {
        "micro_min_max": micro(clips, rescaled),
        "macro": float(np.mean(own)) if own else None,
        "macro_padded": padded_macro(clips) if raw is not None else None,
    }
    added = {f"{name}_adds": value - raw for name, value in compared.items() if value is not None and raw is not None}
    return {
        "micro": raw,
        "micro_smoothed": micro(clips, smoothed),
        "clips": of_clips,
        "clips_without_auc": sorted(name for name, value in of_clips.items() if value is None),
        "comparison": compared | added,
    }


def events(labels: np.ndarray) -> list[tuple[int, int]]:
    """First frame and end (exclusive) of every run of True."""
    edges = np.diff(np.concatenate([[0], np.asarray(labels, np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def alarms(scores: np.ndarray, threshold: float, steady: int = STEADY) -> np.ndarray:
    """The frames bool [T] in which the alarm is on: it turns after `steady` verdicts in a row that contradict it."""
    state, against, found = False, 0, []
    for verdict in scores > threshold:
        against = against + 1 if verdict != state else 0
        if against >= steady:
            state, against = not state, 0
        found.append(state)
    return np.array(found, bool)


def event_metrics(clips: Sequence[Clip], threshold: float, per_second: float) -> dict:
    """Precision and recall of alarms as events, false alarms per hour, and the time to alarm.

    A true event is found where an alarm is on in one of its frames; an alarm is right where it meets an event. An hour
    is one of normal frames, since only in these an alarm can be false. Times are in seconds at `per_second` frames.
    """
    found = total = right = raised = normal = 0
    delays = []
    for clip in clips:
        on = alarms(clip.scores, threshold)
        truth, runs = events(clip.labels), events(on)
        total, raised, normal = total + len(truth), raised + len(runs), normal + int((~clip.labels).sum())
        right += sum(bool(clip.labels[start:end].any()) for start, end in runs)
        for start, end in truth:
            met = np.flatnonzero(on[start:end])
            if met.size:
                found += 1
                delays.append(int(met[0]) / per_second)
    hours = normal / per_second / 3600
    return {
        "events": total,
        "alarms": raised,
        "precision": right / raised if raised else None,
        "recall": found / total if total else None,
        "false_alarms": raised - right,
        "false_alarms_per_hour": (raised - right) / hours if hours else None,
        "normal_seconds": normal / per_second,
        "seconds_to_alarm": {"median": float(np.median(delays)), "longest": max(delays)} if delays else None,
        "steady": STEADY,
        "frames_per_second": per_second,
    }
