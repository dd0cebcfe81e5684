"""What a fleet costs by the figures of `python -m experiments scale`, and for how many devices each part is enough."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, count, markdown_list, markdown_table, significant, size
from stages.report.summary import read_json

EVENTS, MESSAGES, PEAK = 100, 3, 20  # events of a device a day, messages of one (new, update, end), peak to mean
DAY, YEAR = 86_400, 365
DISK, KEPT, SOON = 1e12, 30, 100  # bytes for clips, days that they are kept, milliseconds that a search may take
FLEETS = (10, 1_000, 100_000)
PEAK_RATE = EVENTS * MESSAGES * PEAK / DAY  # messages a second of one device
HEAD = ("Step", "Measured", "A device needs", "Enough for devices")
FLEET_HEAD = ("Devices", "Messages/s at the peak", "Sealed a day", "Clips a day", "Vectors a year", "One search")


def rows(found: dict) -> list[list[str]]:
    """A row for each step: what one core or disk does, and for how many devices that is enough."""
    event, broker, clip, vectors = found["events"], found["broker"] or {}, found["clip"], found["vectors"]
    need = f"{significant(PEAK_RATE)} /s at the peak"
    steps = {
        "seal a message and keep it on disk": event["kept_per_s"],
        "seal a message": event["sealed_per_s"],
        "mosquitto to one subscriber, QoS 1": broker.get("messages_per_s"),
        "mosquitto, by its processor time": broker.get("broker_per_core_s"),
        "open a message": event["opened_per_s"],
    }
    table = [
        [
            name,
            "not measured (no mosquitto)" if rate is None else f"{significant(rate)} /s",
            need,
            _devices(rate, PEAK_RATE),
        ]
        for name, rate in steps.items()
    ]
    daily, yearly = clip["bytes"] * EVENTS, EVENTS * YEAR
    within = SOON / vectors["search_ms"] * vectors["stored"]
    search = f"{significant(vectors['search_ms'], ' ms')} for {count(vectors['stored'])}"
    per_hour = f"{significant(3600 / found['sweep']['unit_cpu_s'])} an hour"
    return [
        *table,
        [
            f"clips of {KEPT} days on {_bytes(DISK)}",
            f"{size(clip['bytes'])} a clip",
            f"{_bytes(daily)} a day",
            _devices(DISK / KEPT, daily),
        ],
        [f"search a year's vectors within {SOON} ms", search, f"{count(yearly)} a year", _devices(within, yearly)],
        ["units of a sweep, without their stages", per_hour, NONE, NONE],
    ]


def _devices(limit: float | None, each: float) -> str:
    """Two digits, which is more than the suppositions are worth."""
    return NONE if limit is None else f"{float(f'{limit / each:.2g}'):,.0f}"


def _bytes(value: float) -> str:
    for limit, unit in ((1e15, " PB"), (1e12, " TB"), (1e9, " GB")):
        if value >= limit:
            return significant(value / limit, unit)
    return size(value)


def fleets(found: dict) -> list[list[str]]:
    """A row for each size of a fleet."""
    out = []
    for devices in FLEETS:
        day = devices * EVENTS
        search = found["vectors"]["search_ms"] * day * YEAR / found["vectors"]["stored"]
        out.append(
            [
                f"{devices:,}",
                significant(devices * PEAK_RATE),
                _bytes(day * MESSAGES * found["events"]["sealed_bytes"]),
                _bytes(day * found["clip"]["bytes"]),
                count(day * YEAR),
                significant(search / 1000, " s"),
            ]
        )
    return out


def notes(found: dict) -> list[str]:
    """What the figures suppose, and on what they were measured."""
    event, clip, sweep = found["events"], found["clip"], found["sweep"]
    first, again = (significant(sweep[key], " s") for key in ("unit_cpu_s", "cached_unit_cpu_s"))
    return [
        f"Supposed of a device: {EVENTS} events a day of {MESSAGES} messages, a clip and a vector each; peaks are "
        f"{PEAK} times the mean.",
        f"An event has {event['event_bytes']} bytes, {event['sealed_bytes']} sealed. A clip is {clip['seconds']:.0f} s "
        f"of drawn frames (640 x 480; a camera's have more or less detail); {significant(clip['frame_ms'], ' ms')} to "
        "draw, encode and write a frame.",
        f"A vector has {found['vectors']['dimensions']} numbers; searched without an index.",
        f"A unit of a sweep costs {first} of processor time besides its stages, and {again} when all are in the cache.",
        f"One core of {found['machine']['cpu']}, which had other work too: by processor time, but what waits for a "
        "disk or a broker by the fastest of six blocks.",
        provenance.sentence(found),
    ]


def markdown(folder: Path) -> str:
    """The tables of `folder`/scale.json."""
    path = folder / "scale.json"
    if not path.exists():
        raise UserError(f"{path}: no measurement; run python -m experiments scale --output {path}")
    found = read_json(path)
    parts, whole = markdown_table(HEAD, rows(found)), markdown_table(FLEET_HEAD, fleets(found))
    return f"{parts}\n\n{whole}\n\n{markdown_list(notes(found))}"
