"""The words of one sentence, and what stands at the place that a parser has reached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from edge.errors import UserError
from edge.watch import words as w

TOKEN = re.compile(r"\"[^\"]*\"|km/h|m/s|\d+[:.]\d+|\d+|[^\W\d_][^\W_]*(?:['\u2019-][^\W_]+)*|\S")
MOST_WORDS = 3  # of a name that is not known
POLITE = ("please", "then")
ARTICLES = ("the", "my", "our")


class NotUnderstood(UserError):
    """What of a sentence is outside of the grammar."""


@dataclass(frozen=True)
class Known:
    """The names of a site; None where there is no site, so that any name is taken."""

    zones: tuple[str, ...] | None = None
    lines: tuple[str, ...] | None = None
    schedules: tuple[str, ...] | None = None
    sensors: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None


class Phrases:
    """A sentence, the place `at` in it, and the rule so far, `found`."""

    def __init__(self, text: str, known: Known):
        lower = re.sub(r"\b([ap])\.\s?m\.?(?=\W|$)", r"\1m", text.lower())
        self.text, self.known = text, known
        self.tokens = [token for token in TOKEN.findall(lower) if token not in POLITE]
        self.quoted = [token[1:-1].strip() for token in re.findall(r'"[^"]*"', text)]  # as they are written
        self.at = 0
        self.found: dict[str, Any] = {}
        self.there = False  # the sentence says "there is"

    def name(self, what: str, known: Sequence[str] | None) -> str:
        """A name: one of the site's, or, where there is no site, up to three words that nothing else takes."""
        found = self.maybe_name(known)
        if found is None:
            hint = f"a {what}: " + (", ".join(known) or "the site has none") if known is not None else f"a {what}"
            self.refuse(hint)
        if what in ("zone", "line"):
            self.take("zone", "area", "line")
        return found

    def maybe_name(self, known: Sequence[str] | None) -> str | None:
        start = self.at
        self.take(*ARTICLES)
        if known is not None:
            by_words = {" ".join(TOKEN.findall(name.lower())): name for name in known}
            quoted = self.peek_quoted()
            if quoted is not None and quoted in by_words:
                self.at += 1
                return by_words[quoted]
            phrase = self.take(*by_words)
            self.at = self.at if phrase else start
            return by_words[phrase] if phrase else None
        quoted = self.peek_quoted()
        if quoted:
            self.at += 1
            return str(self.quoted[sum(token.startswith('"') for token in self.tokens[: self.at]) - 1])
        words: list[str] = []
        while self.at < len(self.tokens) and len(words) <= MOST_WORDS:
            token = self.tokens[self.at]
            if token in w.STOPS and (words or token != "till"):  # a till is also where one pays
                break
            if not (token[0].isalpha() or (token.isdigit() and words)):
                break
            words.append(token)
            self.at += 1
        if not words or len(words) > MOST_WORDS or set(words) & w.NO_NAME:
            self.at = start
            return None
        return " ".join(words)

    def name_until(self, end: int, what: str, known: Sequence[str] | None) -> str:
        """The name that the words up to a place make."""
        start = self.at
        self.take(*ARTICLES)
        words = self.tokens[self.at : end]
        if what == "sensor" and words[-1:] == ["sensor"]:
            words = words[:-1]
        text = " ".join(words).strip('"')
        if known is not None:
            by_words = {" ".join(TOKEN.findall(name.lower())): name for name in known}
            if text not in by_words:
                self.refuse(f"a {what}: " + (", ".join(known) or "the site has none"), start=start)
            text = by_words[text]
        elif not words or len(words) > MOST_WORDS or set(words) & (w.NO_NAME | w.STOPS):
            self.refuse(f"a {what}", start=start)
        self.at = end
        return text

    def peek_quoted(self) -> str | None:
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        return token.strip('"').strip() if token.startswith('"') else None

    def peek(self, *phrases: str) -> str | None:
        """The longest of the phrases that stands here."""
        fits = (phrase for phrase in phrases if self._fits(phrase, self.at))
        return max(fits, key=lambda phrase: len(phrase.split()), default=None)

    def take(self, *phrases: str) -> str | None:
        """As `peek`, and goes on behind it."""
        found = self.peek(*phrases)
        self.at += len(found.split()) if found else 0
        return found

    def ahead(self, phrases: Iterable[str]) -> int | None:
        """Where the first of the phrases stands, a few words from here."""
        places = range(self.at, min(self.at + 6, len(self.tokens)))
        return next((i for i in places if any(self._fits(phrase, i) for phrase in phrases)), None)

    def _fits(self, phrase: str, at: int) -> bool:
        parts = phrase.split()
        return self.tokens[at : at + len(parts)] == parts

    def number(self) -> float | None:
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", token):
            self.at += 1
            return float(token) if "." in token else int(token)
        word = self.take(*w.NUMBERS)
        return w.NUMBERS[word] if word else None

    def refuse(self, wanted: str = "", start: int | None = None, back: int = 0) -> NoReturn:
        """Ends with the words that were not understood, and what should stand there."""
        here = self.at - back if start is None else start
        words = " ".join(self.tokens[here : here + 5])
        what = f"not understood: {words!r}" if words else "not understood: something is missing at the end"
        raise NotUnderstood(f"{self.text}: {what}" + (f"; expected {wanted}" if wanted else ""))


def one(values: list[str]) -> str | list[str]:
    """A single value by itself."""
    return values[0] if len(values) == 1 else values
