"""Exceptions for mistakes that a user can correct, and their messages.

Owns the exception types whose text is printed without a traceback, and the phrasing they share.
Does not know what a study, a task or a model is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from fewtune.plurals import pluralise

MOST_NAMES = 30
"""Names that a message lists, before it counts the rest."""
MOST_CHARACTERS = 80
"""Characters that a message shows of one name or value."""
MOST_FAULTS = 100
"""Faults that a study's message lists, before it counts the rest."""


class FewtuneError(Exception):
    """Something the user gave cannot be used: the message says what was given, what is allowed, what to do."""


class DataError(FewtuneError):
    """Rows, files or columns that cannot be used."""


class ModelError(FewtuneError):
    """A model that cannot be found, loaded or used."""


class RecordError(FewtuneError):
    """An output folder or a record that cannot be read, or that belongs to another study."""


class PredictorError(FewtuneError):
    """A saved model that cannot be written, read, or put onto its base model."""


class ArgumentError(FewtuneError, ValueError):
    """What scikit-learn's users expect a ValueError for: rows, labels or parameters of a classifier."""


class ExecutorError(FewtuneError):
    """Where trials run no longer runs any: a cluster that ended, has no room, or cannot be used."""


class UnwrittenError(FewtuneError, OSError):
    """A file or folder that could not be written; an OSError, whose `filename` it is, that says what to do."""

    def __init__(self, number: int | None, reason: str, path: str, remedy: str = "") -> None:
        super().__init__(number, reason, path)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.filename}: it could not be written ({self.strerror}). {self.remedy}".rstrip()


class NoChoiceError(FewtuneError, AttributeError):
    """What a choice found was asked of a classifier that chose nothing: it has no such attribute."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a study: what, and the 1-based line where it stands (None: the file as a whole)."""

    message: str
    line: int | None = None


class StudyError(FewtuneError):
    """Every fault of a study at once."""

    def __init__(self, source: str, faults: Iterable[Fault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = len(self.faults)
        lines = [f"{source}: {pluralise(count, 'fault')}"]
        for fault in self.faults[:MOST_FAULTS]:
            place = f"line {fault.line}: " if fault.line is not None else ""
            lines.append(f"  {place}{fault.message}")
        if count > MOST_FAULTS:
            lines.append(f"  and {count - MOST_FAULTS} more: mend these first.")
        super().__init__("\n".join(lines))


class TrialFailure(Exception):  # noqa: N818 - it is recorded as a failure, not raised to a user
    """A trial that ran and did not succeed; `kind` is diverged, out_of_memory, killed or error."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


def name_choices(given: str, allowed: Iterable[str], what: str) -> str:
    """Format the refusal of an unknown name: what was given, the nearest allowed name, the allowed names."""
    names = sorted(allowed)
    near = find_near(given, names)
    hint = f" Did you mean {near!r}?" if near is not None else ""
    return f"unknown {what} {shorten(given)!r}.{hint} Allowed: {list_names(names)}."


def find_near(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that a given one is likest, whatever the case of either; None where none is like it."""
    if len(given) > MOST_CHARACTERS:
        return None
    # Comparing long texts takes minutes, and none of them is a slip of the pen.
    folded = {name.casefold(): name for name in allowed if len(name) <= MOST_CHARACTERS}
    near = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=0.5)
    return folded[near[0]] if near else None


def list_names(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """Names as a message shows them: the first `most`, each cut where it is long, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(map(shorten, every[:most])) + more


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text as a message shows it: cut where it is long, lone surrogates, which no terminal takes, written out."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


def format_install(extra: str) -> str:
    """How one of fewtune's extras is installed."""
    return f"pip install 'fewtune[{extra}]' (from a clone: pip install '.[{extra}]')"
