"""Formats a number of things: 1 process, 2 processes.

Owns the plural of an English noun, as far as messages need it.
"""

from __future__ import annotations

_HISSING = ("s", "x", "z", "ch", "sh")


def pluralise(number: float, noun: str, form: str = "") -> str:
    """Format a number of things: '1 trial', '3 trials', '2 test rows'; `form` is how the number is written ('.1f')."""
    shown = format(number, form)
    return f"{shown} {noun if float(shown.replace(',', '')) == 1 else form_plural(noun)}"


def choose_verb(number: int, one: str, several: str) -> str:
    """The form of a verb that agrees with a number of things: '1 row has', '2 rows have'."""
    return one if number == 1 else several


def form_plural(noun: str) -> str:
    """The plural of a noun: 'row' as 'rows', 'process' as 'processes', 'query' as 'queries'."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(_HISSING) else f"{noun}s"
