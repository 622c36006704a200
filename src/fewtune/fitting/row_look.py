"""Checks a file's rows before anything is fitted, and says what they mean for the model.

Owns what is looked at, and its wording in a few short lines. Does not read files (`tasks/own_files`) or guess
languages (`languages`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.cells import cell_len, chop_cells

from fewtune.fitting.languages import Language, find_languages
from fewtune.models import find_model, inspect_model, is_english, max_positions
from fewtune.plurals import choose_verb, form_plural, pluralise
from fewtune.prompts.unspaced import is_unspaced
from fewtune.study.defaults import DEFAULT_MAX_TOKENS
from fewtune.system.terminal import make_safe
from fewtune.tasks.base import RowsLeftOut, Task

RARE = 5
"""Rows of a label below which its recall cannot be told: one row more or less is a quarter of it."""
COLUMNS = 80
"""Signs that a line may have."""
LONGEST_NAME = 16
"""Signs of a label or a model that stand in a line."""
MOST_COUNTED = 500
"""Rows whose tokens are counted, evenly spread."""
FOREIGN = 0.1
"""Share of rows in other languages from which on it is told that a model mostly knows English."""


@dataclass(frozen=True)
class ModelFacts:
    """What a look at rows takes of a model: how many tokens of a row it reads, and what counts them."""

    name: str
    most_tokens: int
    count_tokens: Callable[[Sequence[str]], Sequence[int]]
    """Tokens of each of some texts."""
    english: bool | None = None
    """Whether it mostly knows English; None where that is not known."""


@dataclass(frozen=True)
class ModelReading:
    """What a model reads of the rows."""

    model: str
    most_tokens: int
    longer: int
    """Rows whose text has more tokens, which are cut, of those that were looked at."""
    looked: int
    english: bool | None


@dataclass(frozen=True)
class RowLook:
    """What there is in a file of labelled rows."""

    rows: int
    labels: tuple[tuple[str, int], ...]
    """Each label and its rows, the commonest first."""
    unit: str
    """What lengths are counted in: word, or character where most text is of a script without spaces."""
    median_length: float
    longest: int
    languages: tuple[Language, ...]
    """The commonest first; none where that is not known."""
    readings: tuple[ModelReading, ...]
    left_out: RowsLeftOut

    @property
    def majority_share(self) -> float:
        """What always answering the majority class scores."""
        return self.labels[0][1] / self.rows

    @property
    def single(self) -> tuple[str, ...]:
        """Labels of one row: it is fitted on and never judged."""
        return tuple(label for label, count in self.labels if count == 1)

    @property
    def rare(self) -> tuple[str, ...]:
        """Labels of more rows, but of fewer than RARE."""
        return tuple(label for label, count in self.labels if 1 < count < RARE)


def read_model_facts(name: str, max_tokens: int | None = None) -> ModelFacts:
    """What a look takes of a model, by its name; no weights are loaded. Raises ModelError where it cannot be used.

    `max_tokens` bounds one row's prompt, as in a study.
    """
    from fewtune.models.tokenizers import read_tokenizer

    snapshot = find_model(name)
    tokenizer = read_tokenizer(snapshot.path)
    positions, most = max_positions(inspect_model(snapshot)), max_tokens or DEFAULT_MAX_TOKENS
    special = tokenizer.num_special_tokens_to_add()
    counted = special if most > positions - special else 0  # they take positions, and count in no bound of a user's

    def count_tokens(texts: Sequence[str]) -> list[int]:
        found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return [len(tokens) + counted for tokens in found]

    return ModelFacts(name, min(most, positions - special) + counted, count_tokens, is_english(name))


def look_at_rows(task: Task, models: Iterable[ModelFacts] = ()) -> RowLook:
    """Look at a task's training rows, and at what some models read of them."""
    texts = ["\n".join(row.fields.values()) for row in task.train]
    unspaced = is_unspaced(texts)
    lengths = [len("".join(text.split())) if unspaced else len(text.split()) for text in texts]
    counts = [(task.labels[label], n) for label, n in task.label_counts.items() if label is not None]
    return RowLook(
        rows=len(texts),
        labels=tuple(sorted(counts, key=lambda each: -each[1])),
        unit="character" if unspaced else "word",
        median_length=median(lengths),
        longest=max(lengths),
        languages=find_languages(texts),
        readings=tuple(_read(model, texts) for model in models),
        left_out=task.left_out,
    )


def _read(model: ModelFacts, texts: Sequence[str]) -> ModelReading:
    looked = texts[:: -(-len(texts) // MOST_COUNTED)]
    longer = sum(tokens > model.most_tokens for tokens in model.count_tokens(looked))
    return ModelReading(model.name, model.most_tokens, longer, len(looked), model.english)


def format_row_look(look: RowLook) -> list[str]:
    """A look in six lines at most, of COLUMNS signs at most each."""
    lines = (
        _format_labels(look),
        _format_lengths(look),
        _format_languages(look),
        format_rows_left_out(look.left_out),
        _format_rare(look),
        _format_worth(look),
    )
    return [line for line in lines if line]


def _format_labels(look: RowLook) -> str:
    head = f"{pluralise(look.rows, 'row', ',')}, {pluralise(len(look.labels), 'label')}: "
    (first, most), *_, (last, fewest) = look.labels
    return _choose(
        head + ", ".join(f"{_cut(label, COLUMNS)} {count:,}" for label, count in look.labels) + ".",
        *(
            f"{head}from {_cut(first, cells)} ({most:,}) to {_cut(last, cells)} ({fewest:,})."
            for cells in (LONGEST_NAME, LONGEST_NAME // 2)
        ),
    )


def _format_lengths(look: RowLook) -> str:
    unit = look.unit if look.median_length == 1 else form_plural(look.unit)
    lengths = f"Median {look.median_length:,.0f} {unit}, longest {look.longest:,}"
    cut = max(look.readings, key=lambda reading: reading.longer, default=None)
    if cut is None or not cut.longer:
        return f"{lengths}."
    all_looked = cut.looked == look.rows
    rows = pluralise(cut.longer, "row", ",") if all_looked else f"about {100 * cut.longer / cut.looked:.0f} %"
    return f"{lengths}; {_cut(cut.model)} cuts {rows} at {cut.most_tokens:,} tokens."


def _format_languages(look: RowLook) -> str:
    if not look.languages:
        return ""
    first, *others = look.languages
    shares = [f"{language.name} ({100 * language.share:.0f} %)" for language in look.languages[:3]]
    words = f"In {_join(shares) if others else first.name}"
    foreign = sum(language.share for language in look.languages if language.code != "en")
    english = [_cut(reading.model) for reading in look.readings if reading.english]
    if foreign < FOREIGN or not english:
        return f"{words}."
    knows = choose_verb(len(english), "knows", "know")
    return _choose(
        f"{words}; {_join(english)} mostly {knows} English: expect less.",
        f"{words}; {_join(english)} mostly {knows} English.",
        f"{words}; {pluralise(len(english), 'model')} mostly {knows} English.",
        f"In {first.name} and others; {pluralise(len(english), 'model')} mostly {knows} English.",
    )


def format_rows_left_out(left_out: RowsLeftOut) -> str:
    """How many rows are left out and why; nothing where none is."""
    contradictory = f"{left_out.contradictory:,} contradictory"
    counts = {
        f"{left_out.repeated:,} repeated": left_out.repeated,
        contradictory: left_out.contradictory,
        f"{left_out.tested:,} among the test rows": left_out.tested,
        f"{left_out.unfilled:,} unfilled": left_out.unfilled,
    }
    told = [words for words, count in counts.items() if count]
    if not told:
        return ""
    explained = [words + " (a text, several labels)" if words == contradictory else words for words in told]
    return _choose(f"Rows left out: {', '.join(explained)}.", f"Rows left out: {', '.join(told)}.")


def _format_rare(look: RowLook) -> str:
    single, rare = (list(map(_cut, labels)) for labels in (look.single, look.rare))
    told: list[tuple[str, str]] = []
    if single:
        has = choose_verb(len(single), "has", "have")
        means = "one row: fitted on, never judged"
        told.append((f"{_join(single)} {has} {means}", f"{pluralise(len(single), 'label')} {has} {means}"))
    if rare:
        has = choose_verb(len(rare), "has", "have")
        means = f"under {RARE} rows: hard to judge"
        told.append((f"{_join(rare)} {has} {means}", f"{pluralise(len(rare), 'label')} {has} {means}"))
    wordings = ["; ".join(words) + "." for words in zip(*told, strict=True)]
    if single and rare:
        wordings.append(f"{len(single)} of one row, never judged; {len(rare)} of under {RARE} rows, hard to judge.")
    return _choose(*wordings) if told else ""


def _format_worth(look: RowLook) -> str:
    """What a score has to beat, and how well so many rows tell one: half of a normal 95 % interval at one half."""
    points = max(1.0, 100 * 1.96 * math.sqrt(0.25 / look.rows))
    told = f"{pluralise(look.rows, 'row', ',')} {choose_verb(look.rows, 'tells', 'tell')} accuracy to ±{points:.0f}"
    right = f"is right on {100 * look.majority_share:.0f} %"
    return _choose(
        *(
            f"Always answering {_cut(look.labels[0][0], cells)} {right}; {told} points."
            for cells in (LONGEST_NAME, LONGEST_NAME // 2)
        )
    )


def _cut(text: str, cells: int = LONGEST_NAME) -> str:
    """A label or a model's name as a line shows it: safe, on one line, cut where it is long."""
    safe = " ".join(make_safe(text).split())
    return safe if cell_len(safe) <= cells else chop_cells(safe, cells - 1)[0] + "…"


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _choose(*wordings: str) -> str:
    """The first of several wordings that a line holds, else the last, cut."""
    fitting = (words for words in wordings if cell_len(words) <= COLUMNS)
    return next(fitting, None) or _cut(wordings[-1], COLUMNS)
