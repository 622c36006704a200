"""QQP, Quora question pairs (Iyer et al. 2017; as GLUE splits it): https://arxiv.org/abs/1804.07461

Out of domain is PAWS-QQP (Zhang et al. 2019), https://arxiv.org/abs/1904.01130: pairs that share their words and
often not their meaning, the pairing of Mosbach et al. 2023, https://arxiv.org/abs/2305.16938. Owns reading both
corpora's layouts; does not know how the hub or a cache works.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtune.data.files import find_layout, read_jsonl, read_text, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError
from fewtune.plurals import choose_verb, pluralise
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task, drop_repeats

NAME = "qqp"
SOURCE_URL = "https://arxiv.org/abs/1804.07461"
SUMMARY = "Do two questions ask the same thing? Out of domain: PAWS-QQP, the same words in another order."

FIELDS = ("question1", "question2")
LABELS = ("not_duplicate", "duplicate")
PATTERNS = (
    Pattern(
        "eval_harness",
        "Question 1: {question1}\nQuestion 2: {question2}\nQuestion: Do both questions ask the same thing?\nAnswer:",
        (" No", " Yes"),
    ),
    Pattern("minimal", "{question1} {question2} ?", (" No", " Yes")),
)

PAWS = "paws_qqp"

_HUB_ID = "nyu-mll/glue"
_HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
_JSONL = ("qqp/train.jsonl", "qqp/dev_from_train.jsonl")
_GLUE = ("QQP/train.tsv", "QQP/dev.tsv")
_GLUE_COLUMNS = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
_PAWS_JSONL = "paws_qqp/dev_and_test.jsonl"
_PAWS_TSV = "paws_qqp/dev_and_test.tsv"


@dataclass(frozen=True)
class Settings:
    """Nothing to set: there is one way to read QQP."""


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read QQP and PAWS-QQP from `data_dir` (JSONL or TSV); without one, QQP from the hub, and no PAWS-QQP."""
    notes: list[str] = []
    if data_dir is None:
        train, inside = (
            _make_pairs(_undo_quotes(load_hub_rows(_HUB_ID, "qqp", split, _HUB_REVISION)), name, _HUB_ID, notes)
            for split, name in (("train", "train"), ("validation", "dev"))
        )
    elif find_layout(data_dir, (_JSONL, _GLUE)) == 0:
        train, inside = (
            _make_pairs(read_jsonl(data_dir / name), split, str(data_dir / name), notes)
            for split, name in zip(("train", "dev_from_train"), _JSONL, strict=True)
        )
        notes.append(f"{IN_DOMAIN}: its rows come from QQP's training split, not from GLUE's validation split.")
    else:
        train, inside = (
            _make_pairs(_undo_quotes(_read_glue(data_dir / name, notes)), split, str(data_dir / name), notes)
            for split, name in zip(("train", "dev"), _GLUE, strict=True)
        )
    outside = _read_paws(data_dir, notes)
    identity = tuple(range(len(LABELS)))
    given = [TestSet(IN_DOMAIN, inside, LABELS, identity)]
    if outside:
        given.append(TestSet(PAWS, outside, LABELS, identity))
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=FIELDS,
        labels=LABELS,
        patterns=PATTERNS,
        primary_metric="accuracy",
        train=train,
        test_sets=tuple(given),
        notes=tuple(notes),
    )
    return build_task(task)


def _make_pairs(
    rows: Iterable[Mapping[str, Any]], split: str, where: str, notes: list[str], columns: tuple[str, str] = FIELDS
) -> tuple[Example, ...]:
    """The pairs of one file; those with an empty question are left out, with a note."""
    pairs: list[Example] = []
    empty = 0
    for number, row in enumerate(rows):
        texts = [row.get(column) for column in columns]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: the columns {' and '.join(columns)} must hold text. It has: {', '.join(row)}.")
        questions = [str(text).strip() for text in texts]
        label = row.get("is_duplicate", row.get("label"))
        if str(label) not in ("0", "1"):
            raise DataError(f"{where}: row {number + 1} has the label {label!r}. Allowed: 0, 1.")
        if not all(questions):
            empty += 1
            continue
        identity = row.get("idx", row.get("id", number))
        pairs.append(Example(f"{split}/{identity}", dict(zip(FIELDS, questions, strict=True)), int(str(label))))
    if empty:
        notes.append(f"{split}: {pluralise(empty, 'pair')} left out in which a question is empty.")
    return tuple(pairs)


def _undo_quotes(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the quotes that GLUE's file, and the hub's rows made from it, put around some questions."""
    return [{name: _unquote(cell) if name in FIELDS else cell for name, cell in row.items()} for row in rows]


def _unquote(cell: Any) -> Any:
    if isinstance(cell, str) and len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1].replace('""', "")
        return cell[1:-1].replace('""', '"') if '"' not in inner else cell
    return cell


def _read_glue(path: Path, notes: list[str]) -> list[dict[str, str]]:
    """GLUE's TSV; lines that are no whole row (a line break inside a question) are left out, with a note."""
    header, *lines = read_text(path).split("\n")
    columns = header.removesuffix("\r").split("\t")
    if columns != list(_GLUE_COLUMNS):
        raise DataError(f"{path}: the first line must name the columns {', '.join(_GLUE_COLUMNS)}.")
    cells = [line.removesuffix("\r").split("\t") for line in lines if line.strip()]
    rows = [dict(zip(columns, row, strict=True)) for row in cells if len(row) == len(columns)]
    if len(rows) < len(cells):
        lost = len(cells) - len(rows)
        fault = f"{choose_verb(lost, 'does', 'do')} not hold {len(columns)} cells"
        notes.append(f"{path.name}: {pluralise(lost, 'line')} left out that {fault}.")
    return rows


def _read_paws(data_dir: Path | None, notes: list[str]) -> tuple[Example, ...]:
    columns = ("sentence1", "sentence2")
    if data_dir is not None and (data_dir / _PAWS_JSONL).is_file():
        path = data_dir / _PAWS_JSONL
        rows = read_jsonl(path, (*columns, "label"))
    elif data_dir is not None and (data_dir / _PAWS_TSV).is_file():
        path = data_dir / _PAWS_TSV
        rows = [
            {**row, **{column: _decode_bytes(row.get(column), path, number) for column in columns}}
            for number, row in enumerate(read_tsv(path), start=1)
        ]
    else:
        place = "the hub" if data_dir is None else str(data_dir)
        notes.append(
            f"No PAWS-QQP rows in {place}, so nothing is out of domain. "
            f"Put {_PAWS_JSONL} in --data-dir to test on PAWS-QQP."
        )
        return ()
    pairs = _make_pairs(rows, PAWS, str(path), notes, columns)
    pairs, repeats = drop_repeats(pairs, PAWS)
    notes += [*repeats, f"{PAWS}: its questions are tokenised, with spaces before punctuation, as published."]
    return pairs


def _decode_bytes(cell: str | None, path: Path, number: int) -> str:
    """The text of a cell that holds Python bytes as written, b'...', as PAWS-QQP is published."""
    try:
        value = ast.literal_eval(cell or "")
        if isinstance(value, bytes):
            return value.decode()
    except (ValueError, SyntaxError):
        pass
    raise DataError(f"{path}: row {number} holds {cell!r} where b'...' in UTF-8 is due. Take a fresh copy of the file.")
