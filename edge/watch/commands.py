"""The commands of `edge.watch`: watch, replay, check."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from edge.app import console
from edge.errors import UserError, shown
from edge.event import Event
from edge.inference.fields import Fields
from edge.link.link import Link
from edge.watch import replay, rules
from edge.watch.eyes import check_models
from edge.watch.language import to_rule
from edge.watch.phrases import Known
from edge.watch.recorder import Recorder
from edge.watch.runner import check_sources
from edge.watch.runner import run as run_all
from edge.watch.site import Camera, Site, read_site
from edge.watch.watcher import Inputs


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="check every field of a site.json, its model folders and cameras")
    check.add_argument("site", help="the site.json")
    check.add_argument(
        "--no-models", action="store_true", help="look neither into the model folders nor for the cameras' files"
    )
    check.set_defaults(run=run_check)

    watch = commands.add_parser("watch", help="watch the cameras of a site.json and report events")
    watch.add_argument("site", help="the site.json")
    watch.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    watch.add_argument("--json", action="store_true", help="print events and figures as JSON lines")
    watch.set_defaults(run=run_watch)

    again = commands.add_parser("replay", help="what the rules of a site.json report of a recorded video")
    again.add_argument("site", help="the site.json")
    again.add_argument("clip", help="the video file")
    again.add_argument("--camera", metavar="NAME", help="the camera that it is of; a site's only one need not be named")
    again.add_argument(
        "--start",
        metavar="TIME",
        help='when it began, in the time zone of the site: "2026-06-03 22:00" (default: when the file was written)',
    )
    again.add_argument("--truth", metavar="FILE", help="labels of its frames (frame,label): adds precision and recall")
    again.add_argument("--json", action="store_true", help="print events and figures as JSON lines")
    again.set_defaults(run=run_replay)

    rule = commands.add_parser("rule", help="turn an English sentence into the JSON of a rule")
    rule.add_argument("sentence", help='such as "alert me if a person enters the store room after 10 pm"')
    rule.add_argument("--site", metavar="FILE", help="a site.json whose zones, lines, schedules and sensors are known")
    rule.set_defaults(run=run_rule)


def run_rule(arguments: argparse.Namespace) -> int:
    """Prints the rule; what it takes for granted goes to standard error."""
    if arguments.site is None:
        found = to_rule(arguments.sentence)
        named = [f"{key} {found[key]!r}" for key in ("zone", "line", "schedule", "outside", "sensor") if key in found]
        if named:
            console.complain(f"note: {', '.join(named)}: not checked without --site")
    else:
        site = read_site(arguments.site)
        names = site.names
        known = Known(*(tuple(n) for n in (names.zones, names.lines, names.schedules, names.sensors, names.cameras)))
        found = to_rule(arguments.sentence, known)
        Fields(site.path, {"rules": [found]}).objects("rules", lambda at: rules.parse(at, names))
    if "time_after" in found and "time_before" not in found:
        console.complain(f"note: after {found['time_after']} means until midnight; for the night, say until when")
    print(json.dumps(found, ensure_ascii=False))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    site = read_site(arguments.site)
    if not arguments.no_models:
        check_models(site)
        check_sources(site)
    counts = (len(site.cameras), "cameras"), (len(site.zones), "zones"), (len(site.rules), "rules")
    print(f"{shown(arguments.site)}: " + ", ".join(f"{n} {what if n != 1 else what[:-1]}" for n, what in counts))
    return 0


def run_watch(arguments: argparse.Namespace) -> int:
    """Watches until a signal comes, the files end, or --seconds have passed; 0 then."""
    site = read_site(arguments.site)
    check_models(site)
    stop, inputs = threading.Event(), Inputs(site.sensors)
    with signals(stop), Outputs(site, inputs, Printer(arguments.json)) as out:
        say = console.complain
        found = run_all(site, out, out.recorder, inputs, out.stats, say, stop, arguments.seconds, out.counts)
    if not arguments.json:
        for name, stats in found["cameras"].items():
            print(f"{shown(name)}: " + ", ".join(f"{key} {value}" for key, value in stats["frames"].items()))
    return 0


def run_replay(arguments: argparse.Namespace) -> int:
    site = read_site(arguments.site)
    check_models(site)
    camera = named_camera(site, arguments.camera)
    start = None if arguments.start is None else start_time(arguments.start, site)
    labels = replay.read_truth(arguments.truth)
    stop = threading.Event()
    site.contexts.load()
    played = replay.Replay(site, camera, arguments.clip, replay.started(arguments.clip, start), labels)
    printer = Printer(arguments.json, played.start)
    with signals(stop):
        played.run(stop)
    for event in played.events:
        printer.send(event)
    summary = played.summary()
    if arguments.json:
        print(json.dumps({"summary": summary}))
    else:
        print("\n".join(map(shown, _lines(summary))))
    return 0


def named_camera(site: Site, name: str | None) -> Camera:
    """The camera of that name; of a site's only one it need not be given."""
    known = {camera.name: camera for camera in site.cameras}
    if name is None and len(known) == 1:
        return site.cameras[0]
    if name not in known:
        raise UserError(f"--camera {name or '(missing)'}: must be one of {', '.join(known)}")
    return known[name]


def start_time(text: str, site: Site) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--start {text}: must be a time such as 2026-06-03 22:00") from None
    return found if found.tzinfo else found.replace(tzinfo=site.zone)


class Printer:
    """Prints events, one a line: for people, or as the CloudEvents that go out. `start`: when the video began."""

    def __init__(self, as_json: bool, start: datetime | None = None):
        self.as_json, self.start = as_json, start

    def send(self, event: Event) -> None:
        if self.as_json:
            self._print(event.to_json().decode())
            return
        when = event.time.astimezone().strftime("%H:%M:%S")
        if self.start is not None:
            seconds = (event.time - self.start).total_seconds()
            when = f"{int(seconds // 60):02}:{seconds % 60:04.1f}"
        seen = ", ".join(f"{found.label} {found.track}" for found in event.objects[:5])
        score = "" if event.score is None else f"{event.score:.3g} / {event.threshold:.3g}"
        kind = f"  {event.defect.type} ({event.defect.distance:.2f})" if event.defect else ""
        self._print(shown(f"{when}  {event.phase:<6}  {event.camera}: {event.rule}  {seen}  {score}{kind}".rstrip()))

    def stats(self, figures: dict[str, Any]) -> None:
        if self.as_json:
            self._print(json.dumps({"stats": figures}))

    @staticmethod
    def _print(line: str) -> None:
        """In one piece: events and figures come from several threads."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class Outputs:
    """Where the events of a site go: to standard output, and over its link; its recorder; and what they count."""

    def __init__(self, site: Site, inputs: Inputs, printer: Printer):
        self.printer = printer
        self.recorder = Recorder(site.clips, console.complain) if site.clips else None
        try:
            folder = self.recorder.folder if self.recorder else None
            self.link = Link(site.link, folder, console.complain, inputs) if site.link else None
        except BaseException:
            if self.recorder:
                self.recorder.close()
            raise
        if self.link:
            self.link.announce((c.name, rule.name) for c in site.cameras for rule in site.rules_of(c))

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        if self.recorder:
            self.recorder.close()
        if self.link:
            self.link.close()

    def send(self, event: Event) -> None:
        if self.link:
            self.link.send(event)
        self.printer.send(event)

    def stats(self, figures: dict[str, Any]) -> None:
        if self.link:
            self.link.stats(figures)
        self.printer.stats(figures)

    def counts(self) -> dict[str, Any]:
        found = {"clips": self.recorder and self.recorder.counts, "link": self.link and self.link.counts}
        return {name: counts for name, counts in found.items() if counts is not None}


@contextmanager
def signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT end in order: what is open is reported as ended."""

    def end(number: int, _: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    for key in ("frames", "looks", "events"):
        yield f"{key:<18} " + ", ".join(f"{k} {v}" for k, v in summary[key].items())
    for name, figures in summary["contexts"].items():
        yield f"{name:<18} " + ", ".join(f"{k} {v}" for k, v in figures.items() if k != "vector")
