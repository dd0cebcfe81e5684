"""A site.json that uses everything, and a small one."""

import copy
import json

WHOLE = {
    "device": "shop-12",
    "timezone": "Europe/Berlin",
    "stats": 30,
    "models": [
        {"name": "people", "folder": "models/people", "threads": 2},
        {"name": "pose", "folder": "models/pose"},
        {"name": "scene", "folder": "models/scene", "threads": 1, "types": "catalogue"},
    ],
    "cameras": [
        {
            "name": "door",
            "source": "rtsp://10.0.0.5/live",
            "objects": "people",
            "pose": "pose",
            "anomaly": "scene",
            "rate": 5,
            "motion": 4,
        },
        {"name": "yard", "source": 0, "objects": "motion", "rate": 10},
    ],
    "zones": [
        {
            "name": "entrance",
            "camera": "door",
            "polygon": [[0.1, 0.4], [0.9, 0.4], [0.9, 1.0], [0.1, 1.0]],
            "flow": [0, 1],
            "metres": [6, 4],
            "inertia": 3,
        },
        {"name": "checkout", "camera": "door", "polygon": [[0.0, 0.0], [0.1, 0.0], [0.1, 0.4]]},
        {"name": "shelf", "camera": "door", "polygon": [[0.5, 0.0], [1, 0.0], [1, 0.4]]},
        {"name": "gate", "camera": "yard", "polygon": [[0.5, 0.0], [1, 0.0], [1, 0.4]]},
    ],
    "lines": [{"name": "threshold", "camera": "door", "from": [0.1, 0.9], "to": [0.9, 0.9]}],
    "schedules": {
        "opening hours": {
            "weekly": {"mon": ["08:00-20:00"], "sat": ["09:00-14:00"], "fri": ["08:00-12:00", "13:00-20:00"]},
            "holidays": ["2026-12-25"],
            "on_holidays": [],
            "special": {"2026-12-24": ["08:00-13:00"]},
        },
        "night": {"timezone": "UTC", "weekly": {"sun": ["22:00-06:00"]}},
    },
    "sensors": ["back door"],
    "rules": [
        {"object": "person", "zone": "entrance", "time_after": "22:00", "action": "alert"},
        {"name": "after hours", "object": "person", "camera": "door", "outside": "opening hours", "seconds": 1},
        {
            "rule": "loitering",
            "object": ["person", "dog"],
            "zone": "shelf",
            "seconds": {"person": 60, "dog": 5},
            "grace": 8,
        },
        {"rule": "count", "zone": "entrance", "at_least": 4, "days": ["mon", "sun"], "time_before": "12:00"},
        {"rule": "absence", "object": "person", "zone": "checkout", "seconds": 300, "schedule": "opening hours"},
        {"rule": "against_flow", "zone": "entrance", "angle": 45, "slowest": 0.2},
        {"rule": "speed", "zone": "entrance", "metres_per_second": 3},
        {"rule": "line", "line": "threshold", "direction": "in", "action": "log"},
        {"rule": "crowding", "zone": "entrance", "at_least": 5, "within": 1.5, "seconds": 10},
        {"rule": "route", "start": "shelf", "via": "checkout", "zone": "entrance", "start_seconds": 3},
        {"rule": "fall", "angle": 60, "drop": 0.7, "seconds": 2, "escalate_after": 20},
        {"name": "odd", "rule": "anomaly", "threshold": 1.5, "action": "signal"},
        {"rule": "camera_covered", "contrast": 6, "seconds": 5},
        {"rule": "sensor", "sensor": "back door", "sensor_is": True, "seconds": 60},
        {
            "name": "both",
            "rule": "hybrid",
            "camera": "door",
            "anomaly": 0.5,
            "signals": [{"rule": "after hours", "weight": 0.5}, {"rule": "odd", "boost": 1.5}],
            "threshold": 0.6,
            "cooldown": 60,
            "end_after": 3,
            "update": 5,
            "dismissed": 900,
        },
        {"object": "motion", "zone": "gate", "sensor": "back door", "sensor_is": False},
    ],
    "context": {
        "states": ["night", "opening hours"],
        "learn": True,
        "file": "learned.json",
        "quantile": 0.99,
        "least": 50,
    },
    "load": {"busiest": 0.8, "calm": 0.4},
    "privacy": {
        "mode": "fill",
        "faces": "yunet.onnx",
        "smallest_face": 16,
        "zones": [[0, 0, 0.2, 0.2]],
        "on_failure": "drop",
    },
}
SMALL = {
    "device": "test",
    "timezone": "UTC",
    "cameras": [{"name": "cam", "source": "in.avi", "objects": "motion", "rate": 25}],
    "zones": [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}],
    "rules": [{"zone": "left"}],
}


def whole(**changes):
    return {**copy.deepcopy(WHOLE), **changes}


def small(**changes):
    return {**copy.deepcopy(SMALL), **changes}


def write(folder, site, name="site.json"):
    path = folder / name
    path.write_text(json.dumps(site))
    return str(path)
