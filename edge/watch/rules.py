"""The table of rules: every kind by the name that `rule` has in site.json."""

from __future__ import annotations

from dataclasses import replace

from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.watch.rule import Names, Rule, parse_common
from edge.watch.rules_motion import AgainstFlow, LineCrossing, Loitering, Route, Speed
from edge.watch.rules_occupancy import Absence, Count, Crowding, Presence
from edge.watch.rules_state import AnomalyRule, Covered, Fall, Hybrid, Sensor

KINDS: dict[str, type[Rule]] = {
    rule.kind: rule
    for rule in (
        Presence,
        Absence,
        Count,
        Loitering,
        AgainstFlow,
        Speed,
        LineCrossing,
        Crowding,
        Route,
        Fall,
        AnomalyRule,
        Covered,
        Sensor,
        Hybrid,
    )
}


def parse(at: Fields, names: Names) -> Rule:
    """A rule of site.json; without `rule` it is one of presence."""
    kind = KINDS[at.maybe("rule", Presence.kind, lambda key: at.choice(key, *KINDS))]
    common = parse_common(at, names, kind.kind, kind.cycle)
    return kind(common, **kind.own(at, names, common))


def parse_all(top: Fields, names: Names) -> tuple[Rule, ...]:
    """The `rules` of a site; those without a name get one that no other has. Hybrid rules come last, as they look at
    what the others find."""
    rules = top.objects("rules", lambda at: parse(at, names)) if "rules" in top.values else ()
    given = [isinstance(value, dict) and value.get("name") is not None for value in top.values.get("rules", ())]
    taken = [rule.name for rule, named in zip(rules, given) if named]  # noqa: B905 (strict needs Python 3.10)
    for i, rule in enumerate(rules):
        if given[i] and taken.count(rule.name) > 1:
            raise ModelError(f"{top.path}: rules.{i}.name = {rule.name!r}: must be different from all others")
        if not given[i]:
            rule.common = replace(rule.common, name=_free(rule.name, taken))
            taken.append(rule.name)
    for i, rule in enumerate(rules):
        for j, signal in enumerate(rule.settings.get("signals", ())):
            others = [r.name for r in rules if not isinstance(r, Hybrid) and _together(rule, r)]
            if signal.rule not in others:
                where = f"{top.path}: rules.{i}.signals.{j}.rule = {signal.rule!r}"
                raise ModelError(
                    f"{where}: must be the name of a rule of this camera, and no hybrid: {', '.join(others) or 'none'}"
                )
    return tuple(sorted(rules, key=lambda rule: isinstance(rule, Hybrid)))


def _together(a: Rule, b: Rule) -> bool:
    """Whether some camera may have both."""
    return not a.common.cameras or not b.common.cameras or bool(set(a.common.cameras) & set(b.common.cameras))


def _free(name: str, taken: list[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found
