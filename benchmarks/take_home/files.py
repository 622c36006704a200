"""Files of labelled rows, and the samples that models are made of.

Owns which files there are, how many of their rows a user is taken to have, and how rows are drawn: at random and not by
label, so that rare labels are rare. Texts are read where they lie; none is written but for the processes of a cell.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewtune.errors import DataError
from fewtune.tasks import questions, sentiment
from fewtune.tasks.base import IN_DOMAIN, Task
from fewtune.tasks.texts import normalise_text

FEW, MANY, MOST = 32, 200, 1000
"""Labelled rows; the last for some files alone."""
ROWS_A_LABEL = 2
"""At least so many rows a label on average: 77 labels are not told apart by 32 rows."""
SAMPLES = 2
TEST_ROWS = 2000
"""No more than so many rows are tested on."""


@dataclass(frozen=True)
class Row:
    """One row: its texts, one a field, and its label."""

    texts: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class LabelledFile:
    """Rows of one file, each text once."""

    name: str
    fields: tuple[str, ...]
    rows: tuple[Row, ...]
    sizes: tuple[int, ...]
    """How many labelled rows a user is taken to have."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the alphabet."""
        return tuple(sorted({row.label for row in self.rows}))


@dataclass(frozen=True)
class Sample:
    """What one model is made of and tested on; no text is in both."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all rows in order: records of one are of the same rows."""
        content = json.dumps([[*row.texts, row.label] for row in (*self.train, *self.test)])
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Source:
    """Where a file's rows come from: a function of the folder of evaluation data."""

    title: str
    read: Callable[[Path], tuple[tuple[str, ...], list[Row]]]
    """Fields and rows."""
    of: str | None = None
    """The file whose rows it has, where it is a copy."""
    large: bool = False
    """Whether models are made of a thousand rows too."""


def read_file(name: str, data_dir: Path) -> LabelledFile:
    """A file by name: each text once. Raises DataError where it is missing."""
    source = FILES[name]
    fields, rows = source.read(data_dir)
    kept = keep_once(rows)
    return LabelledFile(name, fields, kept, choose_sizes(len({row.label for row in kept}), source.large))


def choose_sizes(labels: int, large: bool) -> tuple[int, ...]:
    """How many labelled rows a file of so many labels is tried with."""
    least = ROWS_A_LABEL * labels
    return tuple(sorted({max(FEW, least), max(MANY, least), *([MOST] if large else [])}))


def keep_once(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Each text once, whatever its case and punctuation; not at all where it has two labels."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(map(normalise_text, row.texts)), []).append(row)
    return tuple(same[0] for same in found.values() if len({row.label for row in same}) == 1)


def draw_sample(file: LabelledFile, rows: int, sample: int) -> Sample:
    """A random sample of a file's rows, and as many as there are that no sample has to be tested on, TEST_ROWS at most.

    Samples of different numbers share no row; those of one number are nested. All are tested on the same rows.
    """
    rng = np.random.default_rng(_number(file.name))
    order = [file.rows[place] for place in rng.permutation(len(file.rows))]
    largest = max(file.sizes)
    first = sample * largest
    return Sample(tuple(order[first : first + rows]), tuple(order[SAMPLES * largest :][:TEST_ROWS]))


def skew(rows: Sequence[Row], label: str, one_in: int) -> list[Row]:
    """Rows without most of a label's: one in so many rows has it. Raises ValueError where it has fewer already."""
    others = sum(row.label != label for row in rows)
    kept = round(others / (one_in - 1))
    rare = [place for place, row in enumerate(rows) if row.label == label]
    if len(rare) < kept:
        raise ValueError(f"{label!r} has {len(rare)} rows, and {kept} would be one in {one_in}")
    rng = np.random.default_rng([one_in, _number(label)])
    chosen = {rare[place] for place in rng.permutation(len(rare))[:kept]}
    return [row for place, row in enumerate(rows) if row.label != label or place in chosen]


def count_majority(rows: Sequence[Row]) -> float:
    """The share of the majority class."""
    return max(Counter(row.label for row in rows).values()) / len(rows)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _read_task(load: Callable[[], Task]) -> Callable[[Path], tuple[tuple[str, ...], list[Row]]]:
    """Training and test rows in domain of one of fewtune's tasks."""

    def read(data_dir: Path) -> tuple[tuple[str, ...], list[Row]]:
        task = load()
        [test] = [each for each in task.test_sets if each.name == IN_DOMAIN]
        rows = [*task.train, *test.rows]
        return task.fields, [
            Row(tuple(row.fields[field] for field in task.fields), task.labels[row.label])
            for row in rows
            if row.label is not None
        ]

    return read


def _read_parts(
    *parts: str,
    fields: tuple[str, ...] = ("text",),
    name: Callable[[Mapping[str, Any]], str | None] = lambda row: str(row["label"]),
) -> Callable[[Path], tuple[tuple[str, ...], list[Row]]]:
    """Rows of some JSON Lines files; `name` says a row's label, or None where it is left out."""

    def read(data_dir: Path) -> tuple[tuple[str, ...], list[Row]]:
        rows = []
        for part in parts:
            for row in _read_lines(data_dir / part):
                label = name(row)
                if label is not None:
                    rows.append(Row(tuple(" ".join(str(row[field]).split()) for field in fields), label))
        return fields, rows

    return read


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(
            f"{path} is not there. Files whose texts are not the project's are read from the folder that --data-dir "
            "names; choose others with --files: sentiment and questions need none."
        )
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _name_only_label(row: Mapping[str, Any]) -> str | None:
    [*labels] = row["labels"]
    return str(labels[0]).replace("_", " ") if len(labels) == 1 else None


def _name_by(names: Mapping[int, str]) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda row: names[row["label"]]


def _read_skewed(name: str, label: str, one_in: int) -> Callable[[Path], tuple[tuple[str, ...], list[Row]]]:
    def read(data_dir: Path) -> tuple[tuple[str, ...], list[Row]]:
        whole = read_file(name, data_dir)
        return whole.fields, skew(whole.rows, label, one_in)

    return read


FILES: Mapping[str, Source] = {
    "sentiment": Source(
        "review snippets, by sentiment", _read_task(lambda: sentiment.load(sentiment.Settings(), None))
    ),
    "questions": Source(
        "questions to a chat bot, by topic", _read_task(lambda: questions.load(questions.Settings(), None))
    ),
    "sst2": Source(
        "SST-2: sentences of film reviews",
        _read_parts("sst2/train.jsonl", "sst2/dev.jsonl", "sst2/test.jsonl"),
        large=True,
    ),
    "ag_news": Source("AG News: news by section", _read_parts("ag_news/train.jsonl", "ag_news/test.jsonl")),
    "banking77": Source(
        "Banking77: a bank's customers, by intent", _read_parts("banking77/train.jsonl", "banking77/test.jsonl")
    ),
    "clinc150": Source(
        "CLINC150: what an assistant is asked, by intent",
        _read_parts("clinc150/train.jsonl", "clinc150/test.jsonl"),
        large=True,
    ),
    "nlupp": Source(
        "NLU++: banks and hotels, rows of one intent",
        _read_parts("nlupp/banking.jsonl", "nlupp/hotels.jsonl", name=_name_only_label),
    ),
    "qqp": Source(
        "QQP: two questions, the same or not",
        _read_parts(
            "qqp/train.jsonl",
            "qqp/dev_from_train.jsonl",
            fields=("question1", "question2"),
            name=_name_by({0: "different", 1: "duplicate"}),
        ),
        large=True,
    ),
    "rte": Source(
        "RTE: does one sentence follow from another",
        _read_parts(
            "rte/train.jsonl",
            "rte/dev.jsonl",
            fields=("sentence1", "sentence2"),
            name=_name_by({0: "entailment", 1: "no entailment"}),
        ),
    ),
    "sst2-1-in-10": Source("SST-2, one row in 10 negative", _read_skewed("sst2", "negative", 10), of="sst2"),
    "ag_news-1-in-40": Source("AG News, one row in 40 of sports", _read_skewed("ag_news", "sports", 40), of="ag_news"),
}


def make_up_file(rows: int = 80) -> LabelledFile:
    """A file of made-up texts for a smoke test: two labels, each told by its word."""
    words = {"praise": "good", "complaint": "bad"}
    made = tuple(
        Row((f"{words[label]} thing number {number}",), label) for number in range(rows // 2) for label in words
    )
    return LabelledFile("made-up", ("text",), made, (16, 24))
