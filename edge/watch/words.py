"""The vocabulary of the rule language: what phrases stand for. The grammar is in `edge.watch.language`."""

from __future__ import annotations

from edge.watch.adopt import COCO


def phrases(text: str) -> tuple[str, ...]:
    """The phrases of a text, between bars."""
    return tuple(phrase.strip() for phrase in text.split("|"))


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ACTIONS = {
    "alert": phrases(
        "alert me | alert us | alert security | alert | notify me | notify us | notify | tell me | tell us | warn "
        "me | warn us | warn | inform me | inform us | let me know | raise an alarm | raise the alarm | sound the "
        "alarm | trigger an alarm | trigger an alert | send an alert | send me an alert | send an alarm | send a "
        "notification | send me a notification | report | message me "
    ),
    "record": phrases(
        "record a clip | record a video | record it | record this | record | save a clip | save a video | start "
        "recording | keep a clip "
    ),
    "log": phrases("log it | log this | log an event | log | write it down | make a note | note"),
}
WHEN = phrases("if | when | whenever | as soon as | every time | each time | in case | once | that")

# what is seen, beside COCO's names and their plurals in -s
SYNONYMS = {
    "person": phrases(
        "person | persons | people | man | men | woman | women | child | children | kid | kids | human | humans | "
        "pedestrian | pedestrians | customer | customers | worker | workers | employee | employees | visitor | "
        "visitors | intruder | intruders | shopper | shoppers | guest | guests | staff "
    ),
    "motorcycle": phrases("motorbike | motorbikes"),
    "bicycle": phrases("bike | bikes"),
    "truck": phrases("lorry | lorries"),
    "cell phone": phrases("phone | phones | mobile phone | mobile phones | cellphone | cellphones"),
    "couch": phrases("sofa | sofas"),
    "backpack": phrases("rucksack | rucksacks"),
    "airplane": phrases("plane | planes | aeroplane | aeroplanes"),
    "tv": phrases("television | televisions"),
    "motion": phrases("motion | movement | moving object | moving objects"),
    "bus": phrases("buses"),
    "knife": phrases("knives"),
    "mouse": phrases("mice"),
    "sheep": phrases("sheep"),
    "skis": phrases("skis"),
    "scissors": phrases("scissors"),
    "bench": phrases("benches"),
    "toothbrush": phrases("toothbrushes"),
    "sandwich": phrases("sandwiches"),
    "wine glass": phrases("wine glasses"),
}
GROUPS = {
    ("vehicle", "vehicles"): ("car", "motorcycle", "bus", "truck"),
    ("animal", "animals"): phrases("bird | cat | dog | horse | sheep | cow | elephant | bear | zebra | giraffe"),
    ("bag", "bags", "luggage"): ("backpack", "handbag", "suitcase"),
}
ANYBODY = phrases("someone | somebody | anyone | anybody")
NOBODY = phrases("nobody | no one | no-one")
ANYTHING = phrases("something | anything")

ENTERS = phrases(
    "enters | enter | entering | goes into | go into | walks into | walk into | comes into | come into | steps "
    "into | step into | gets into | get into | moves into | move into | drives into | drive into | breaks into | "
    "break into | visits | visit | accesses | reaches | reach "
)
IS_THERE = phrases(
    "is present | are present | is seen | are seen | is detected | are detected | is visible | are visible | is "
    "spotted | are spotted | appears | appear | shows up | show up | is found | are found | is | are | being "
)
LOITERS = phrases(
    "is loitering | are loitering | loiters | loiter | loitering | lingers | linger | lingering | is lingering | "
    "stays | stay | staying | is staying | remains | remain | remaining | stands around | stand around | hangs "
    "around | hang around | is hanging around | is waiting | are waiting | waits | wait | waiting | dwells | "
    "dwell | stands | stand | standing | is standing | is parked | are parked | parks | parked "
)
MOVES = phrases(
    "is moving | are moving | moves | move | moving | is walking | are walking | walks | walk | walking | goes | "
    "go | going | is going | is driving | drives | drive | driving | runs | run | running | is running | travels "
    "| travel | rides | ride | riding | cycles "
)
AGAINST = phrases(
    "against the flow | against flow | against the traffic | against traffic | the wrong way | in the wrong direction "
)
CROSSES = phrases("crosses | cross | crossing | is crossing | passes over | steps over")
FALLS = phrases(
    "falls down | fall down | falls over | falls | fall | has fallen | is falling | collapses | collapse | is "
    "lying on the floor | lies on the floor | is lying on the ground | lies on the ground "
)
GATHERS = phrases(
    "gathers | gather | gathering | are gathering | crowd together | crowd | stand together | form a crowd | form "
    "a group | assemble "
)
FORMS = phrases("forms | gathers | appears | is forming | is there | is seen | is detected | builds up | is ")
UNUSUAL = phrases(
    "something unusual | something abnormal | something strange | anything unusual | anything abnormal | anything "
    "strange | an anomaly | anomalies | any anomaly | a defect | defects | any defect | unusual activity | "
    "abnormal activity | unusual behavior | unusual behaviour | abnormal behavior | abnormal behaviour "
)
HAPPENS = phrases("happens | happen | occurs | occur | is going on") + IS_THERE
COVERED = phrases(
    "the camera is covered | a camera is covered | the camera is blocked | the camera is blinded | the camera is "
    "obstructed | the camera goes dark | someone covers the camera | somebody covers the camera | the lens is "
    "covered "
)
EMPTY = phrases(
    "is empty | is unattended | is unmanned | is not manned | is not attended | is deserted | stays empty | "
    "remains empty | is left unattended "
)
CROWDED = phrases("is crowded | is overcrowded | gets crowded | becomes crowded | is too crowded")
PLACES = phrases("in front of | inside | into | in | within | at | on")
ON = phrases("is on | is open | is triggered | is active | opens")
OFF = phrases("is off | is closed | is inactive | closes")
WITHOUT = phrases(
    "without passing through | without passing | without visiting | without going through | without stopping at | "
    "without entering "
)

INWARDS = phrases("inwards | inward | going in | on the way in | coming in")
OUTWARDS = phrases("outwards | outward | going out | on the way out | leaving")
EITHER = phrases("in either direction | in any direction | in both directions | either way")

DAYPARTS = {  # phrase: from and to
    "at night": ("22:00", "06:00"),
    "during the night": ("22:00", "06:00"),
    "overnight": ("22:00", "06:00"),
    "in the morning": ("06:00", "12:00"),
    "in the afternoon": ("12:00", "18:00"),
    "in the evening": ("18:00", "22:00"),
    "during the day": ("06:00", "22:00"),
    "in the daytime": ("06:00", "22:00"),
}
DAYS = {
    "mon": phrases("monday | mondays | mon"),
    "tue": phrases("tuesday | tuesdays | tue"),
    "wed": phrases("wednesday | wednesdays | wed"),
    "thu": phrases("thursday | thursdays | thu"),
    "fri": phrases("friday | fridays | fri"),
    "sat": phrases("saturday | saturdays | sat"),
    "sun": phrases("sunday | sundays | sun"),
}
WEEKENDS = phrases("weekends | the weekend | a weekend | weekend")
WORKDAYS = phrases("weekdays | a weekday | workdays | working days | weekday")
EVERY_DAY = phrases("every day | each day | daily | at any time | at all times | around the clock | always")

UNITS = {
    1: phrases("second | seconds | sec | secs | s"),
    60: phrases("minute | minutes | min | mins"),
    3600: phrases("hour | hours | h | hrs"),
}
SPEEDS = {
    1.0: phrases("m/s | metres per second | meters per second | metre per second | meter per second"),
    1 / 3.6: phrases("km/h | kmh | kph | kilometres per hour | kilometers per hour"),
    0.44704: phrases("mph | miles per hour"),
}
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: i for i, word in enumerate(ONES.split())}
for _i, _ten in enumerate(TENS.split(), 2):
    NUMBERS[_ten] = 10 * _i
    NUMBERS.update({f"{_ten}-{word}": 10 * _i + j for j, word in enumerate(ONES.split()[1:10], 1)})
NUMBERS["a dozen"] = 12

LASTING = phrases("for more than | for at least | for over | for longer than | longer than | more than | over | for ")
HOURS = ("hours", "times", "shift", "shifts", "schedule")  # one of which ends the name of a schedule

# words that no name has: they would be a part of the sentence that is not understood
NO_NAME = words(
    "a an the this that these those he she it they them his her their its i you we who whom whose which what "
    "where why how wearing carrying holding looking has have had having but because although unless except "
    "sometimes maybe often never not no very too much many few some only also can could may might must should "
    "would will shall do does did don't am was were been be "
)

# words that end the name of a zone, line or schedule
STOPS = words(
    "after before between from until till for during outside while without and or , . ! ? on at in inside into "
    "within if when whenever longer more over under faster against to through at is are every not that going "
    "coming inwards outwards either daily overnight then please with via by stays remains gets becomes opens "
    "closes "
    "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays "
    "saturdays sundays weekends weekdays"
)


def _classes() -> dict[str, tuple[str, ...]]:
    """Every word for something that is seen, with the classes that it stands for."""
    found: dict[str, tuple[str, ...]] = {"object": (), "objects": ()}
    for name in COCO:
        found[name] = (name,)
        if not name.endswith("s"):
            found[name + "s"] = (name,)
    for name, words in SYNONYMS.items():
        found.update({word: (name,) for word in words})
    for group, names in GROUPS.items():
        found.update({word: names for word in group})
    return found


CLASSES = _classes()
