"""Schedules against a clock on the wall, minute by minute, in UTC: over midnight, on both nights of summer time."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from conftest import one_line

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.watch import schedule
from edge.watch.schedule import WEEKDAYS, clock_hours, instant

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)  # 02:00 becomes 03:00; 03:00 becomes 02:00


def hours(zone=BERLIN, **fields):
    return Fields(Path("site.json"), fields).parsed(lambda at: schedule.parse(at, zone))


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def active_minutes(found, start, end):
    """The minutes from `start` to `end`, in UTC, in which hours are active."""
    count = int((end - start).total_seconds() // 60)
    return [start + timedelta(minutes=i) for i in range(count) if found.active(start + timedelta(minutes=i))]


def every_day(*spans):
    return {day: list(spans) for day in WEEKDAYS}


def test_a_working_week():
    found = hours(weekly={day: ["08:00-12:00", "13:00-18:00"] for day in WEEKDAYS[:5]})
    for minute in range(7 * 1440):
        local = datetime(2026, 6, 1, tzinfo=BERLIN) + timedelta(minutes=minute)  # a Monday
        wall = local.hour * 60 + local.minute
        open_now = local.weekday() < 5 and (480 <= wall < 720 or 780 <= wall < 1080)
        assert found.active(local.astimezone(UTC)) == open_now, local


@pytest.mark.parametrize("day", [date(2026, 6, 3), SPRING - timedelta(days=1), AUTUMN - timedelta(days=1)])
def test_over_midnight_ends_when_the_clock_says_so(day):
    found = hours(weekly=every_day("22:00-06:00"))
    start = datetime(day.year, day.month, day.day, 12, tzinfo=BERLIN).astimezone(UTC)
    minutes = active_minutes(found, start, start + timedelta(days=1))
    walls = [minute.astimezone(BERLIN) for minute in minutes]
    assert walls[0].strftime("%H:%M") == "22:00" and walls[-1].strftime("%H:%M") == "05:59"
    lengths = {SPRING - timedelta(days=1): 7, AUTUMN - timedelta(days=1): 9}
    assert len(minutes) == 60 * lengths.get(day, 8)


def test_the_night_in_which_an_hour_is_skipped():
    """02:30 does not exist on 2026-03-29: a span that begins there begins at 03:00, one that ends there ends so."""
    assert instant(SPRING, 150, BERLIN, 0) == instant(SPRING, 150, BERLIN, 1) == utc(2026, 3, 29, 1, 0)
    found = hours(weekly=every_day("02:30-04:00"))
    assert active_minutes(found, utc(2026, 3, 29, 0), utc(2026, 3, 29, 4))[0] == utc(2026, 3, 29, 1, 0)
    assert len(active_minutes(found, utc(2026, 3, 29, 0), utc(2026, 3, 29, 4))) == 60
    found = hours(weekly=every_day("01:00-02:30"))
    assert len(active_minutes(found, utc(2026, 3, 28, 23), utc(2026, 3, 29, 4))) == 60
    assert active_minutes(hours(weekly=every_day("02:10-02:50")), utc(2026, 3, 29, 0), utc(2026, 3, 29, 4)) == []


def test_the_night_in_which_an_hour_comes_twice():
    """02:30 occurs twice on 2026-10-25: a span begins at the first and ends at the second."""
    assert instant(AUTUMN, 150, BERLIN, 0) == utc(2026, 10, 25, 0, 30)
    assert instant(AUTUMN, 150, BERLIN, 1) == utc(2026, 10, 25, 1, 30)
    minutes = active_minutes(hours(weekly=every_day("02:30-02:45")), utc(2026, 10, 24, 23), utc(2026, 10, 25, 4))
    assert (minutes[0], minutes[-1]) == (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 44))


def test_other_zones_skip_and_repeat_otherwise():
    """Lord Howe shifts by half an hour; Apia left out a whole day."""
    found = instant(date(2026, 10, 4), 135, ZoneInfo("Australia/Lord_Howe"), 0)  # 02:00 becomes 02:30
    assert found == utc(2026, 10, 3, 15, 30)
    assert instant(date(2011, 12, 30), 600, ZoneInfo("Pacific/Apia"), 0) == utc(2011, 12, 30, 10, 0)


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Chatham", "UTC"])
def test_a_whole_day_is_a_whole_day_everywhere(name):
    found = hours(zone=schedule.time_zone(name), weekly=every_day("00:00-24:00"))
    assert all(found.active(utc(2026, 1, 1) + timedelta(minutes=37 * i)) for i in range(0, 14000))


def test_holidays_and_special_days():
    found = hours(
        weekly=every_day("08:00-18:00"),
        holidays=["2026-12-25", "2026-12-24"],
        on_holidays=["10:00-12:00"],
        special={"2026-12-24": ["08:00-13:00"], "2026-12-31": []},
    )

    def at(day, hour):
        return found.active(datetime(2026, 12, day, hour, 30, tzinfo=BERLIN))

    assert [at(23, h) for h in (9, 11, 14)] == [True, True, True]
    assert [at(25, h) for h in (9, 11, 14)] == [False, True, False]
    assert [at(24, h) for h in (9, 11, 14)] == [True, True, False]  # special goes before holiday
    assert [at(31, h) for h in (9, 11, 14)] == [False, False, False]


def test_a_holiday_s_night_belongs_to_the_day_on_which_it_begins():
    found = hours(weekly=every_day("22:00-06:00"), holidays=["2026-12-25"])
    assert found.active(datetime(2026, 12, 25, 3, tzinfo=BERLIN))  # the night of the 24th
    assert not found.active(datetime(2026, 12, 25, 23, tzinfo=BERLIN))
    assert not found.active(datetime(2026, 12, 26, 3, tzinfo=BERLIN))


@pytest.mark.parametrize(
    "after, before, inside, outside",
    [
        ("22:00", None, ["22:00", "23:59"], ["21:59", "00:00", "06:00"]),
        (None, "06:00", ["00:00", "05:59"], ["06:00", "22:00"]),
        ("22:00", "06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59"]),
        ("08:00", "18:00", ["08:00", "17:59"], ["07:59", "18:00"]),
    ],
)
def test_the_times_of_a_rule(after, before, inside, outside):
    def minutes(text):
        return None if text is None else int(text[:2]) * 60 + int(text[3:])

    found = clock_hours(BERLIN, minutes(after), minutes(before), None)
    for expected, times in ((True, inside), (False, outside)):
        for text in times:
            assert found.active(datetime(2026, 6, 3, int(text[:2]), int(text[3:]), tzinfo=BERLIN)) == expected, text


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"weekly": {"mon": ["8-18"]}}, "weekly.mon.0 = '8-18': must be hours such as"),
        ({"weekly": {"mon": ["08:00-08:00"]}}, "weekly.mon.0"),
        ({"weekly": {"mon": ["24:00-08:00"]}}, "weekly.mon.0"),
        ({"weekly": {"mon": ["08:00-24:01"]}}, "weekly.mon.0"),
        ({"weekly": {"mon": "08:00-18:00"}}, "weekly.mon = "),
        ({"weekly": {"monday": []}}, "weekly.monday: unknown field"),
        ({"weekly": {}, "holidays": ["2026-02-29"]}, "holidays.0 = '2026-02-29': must be a day"),
        ({"weekly": {}, "holidays": ["20261224"]}, "holidays.0"),
        ({"weekly": {}, "special": {"24.12.2026": []}}, "special.24.12.2026"),
        ({"weekly": {}, "timezone": "Europe/Atlantis"}, "timezone = 'Europe/Atlantis': must be the name of an IANA"),
        ({"weekly": {}, "timezone": "../../etc/passwd"}, "timezone"),
        ({}, "weekly: missing field"),
    ],
)
def test_what_is_wrong_is_named(fields, message):
    with pytest.raises(UserError) as caught:
        hours(**fields)
    assert message in one_line(caught)


def test_a_system_without_time_zones_says_what_to_install(monkeypatch):
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "ZoneInfo", lambda name: (_ for _ in ()).throw(zoneinfo.ZoneInfoNotFoundError(name)))
    with pytest.raises(UserError) as caught:
        hours(timezone="Europe/Berlin", weekly={})
    assert "pip install tzdata" in one_line(caught)
