"""A task's training rows, split in two: settings are tried on them, so no test row chooses one.

python benchmarks/development_rows.py sentiment /tmp/dev [DATA_DIR]      writes /tmp/dev/train.jsonl and test.jsonl

Half of the training rows are trained on, at most 600 of the others tested, chosen by their text. SNLI (Bowman et al.
2015, https://arxiv.org/abs/1508.05326) is a development task alone, read from DATA_DIR: MNLI's question, on rows that
no study tests on. So is BANKING77 (Casanueva et al. 2020, https://arxiv.org/abs/2003.04807), 77 topics of one text.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from fewtune.data.files import read_jsonl
from fewtune.errors import DataError
from fewtune.tasks import get_task_module
from fewtune.tasks.base import IN_DOMAIN, Example, Task, TestSet
from fewtune.tasks.build import build_task
from fewtune.tasks.derived_pattern import derive_pattern
from fewtune.tasks.mnli import TWO_WAY, TWO_WAY_PATTERNS, read_pairs
from fewtune.tasks.texts import text_fraction

TEST_ROWS = 600
SNLI = "snli"
BANKING = "banking77"


def load_development_task(name: str, data_dir: Path | None) -> Task:
    """A task whose training and test rows are halves of the real task's training rows."""
    task = _load_task(name, data_dir)
    return _give_rows(task, "development rows", *split_rows(task))


def load_screened_task(name: str, data_dir: Path | None) -> Task:
    """The task on which methods' settings are screened; CoLA is asked by what was its first pattern when that began."""
    task = load_development_task(name, data_dir)
    first = {"cola": "minimal"}.get(name, task.patterns[0].name)
    return replace(task, patterns=tuple(each for each in task.patterns if each.name == first))


def load_exchanged_task(name: str, data_dir: Path) -> Task:
    """The task with its halves exchanged, without the first TEST_ROWS of each, on which patterns were judged."""
    task = _load_task(name, data_dir)
    first, second = _halve(task)
    return _give_rows(task, "development rows, halves exchanged", second[TEST_ROWS:], first[TEST_ROWS:])


def _load_task(name: str, data_dir: Path | None) -> Task:
    if name in (SNLI, BANKING):
        if data_dir is None:
            raise DataError(f"{name} is read from DATA_DIR/{name}/train.jsonl alone: give a DATA_DIR.")
        return _load_snli(data_dir) if name == SNLI else _load_banking(data_dir)
    module = get_task_module(name)
    task: Task = module.load(module.Settings(), data_dir)
    return task


def _load_snli(data_dir: Path) -> Task:
    """SNLI without its neutral pairs, asked as MNLI is."""
    read, notes = read_jsonl(data_dir / SNLI / "train.jsonl", ("premise", "hypothesis", "label")), list[str]()
    task = Task(
        name=SNLI,
        source_url="https://arxiv.org/abs/1508.05326",
        revision=1,
        fields=("premise", "hypothesis"),
        labels=TWO_WAY,
        patterns=TWO_WAY_PATTERNS,
        primary_metric="accuracy",
        train=read_pairs(read, "train", TWO_WAY, notes),
        test_sets=(),
    )
    return build_task(replace(task, notes=tuple(notes)))


def _load_banking(data_dir: Path) -> Task:
    """BANKING77's questions to a bank, each of one topic."""
    read = read_jsonl(data_dir / BANKING / "train.jsonl", ("text", "label"))
    labels = tuple(sorted({row["label"] for row in read}))
    task = Task(
        name=BANKING,
        source_url="https://arxiv.org/abs/2003.04807",
        revision=1,
        fields=("text",),
        labels=labels,
        patterns=(derive_pattern(("text",), labels),),
        primary_metric="accuracy",
        train=tuple(
            Example(str(place), {"text": row["text"]}, labels.index(row["label"])) for place, row in enumerate(read)
        ),
        test_sets=(),
    )
    return build_task(task)


def write_development_rows(task_name: str, folder: Path, data_dir: Path | None) -> None:
    """Write the two files; labels by name, texts by field."""
    task = _load_task(task_name, data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "test"), split_rows(task), strict=True):
        (folder / f"{name}.jsonl").write_text("".join(write_row(row, task.labels) for row in rows), encoding="utf-8")


def split_rows(task: Task) -> tuple[list[Example], list[Example]]:
    """A task's training rows, as rows to train on and others to test on."""
    first, second = _halve(task)
    return first, second[:TEST_ROWS]


def _halve(task: Task) -> tuple[list[Example], list[Example]]:
    """The halves of a task's training rows, in an order of their texts' own."""
    ordered = sorted(task.train, key=text_fraction)
    half = len(ordered) // 2
    return ordered[:half], ordered[half:]


def _give_rows(task: Task, told: str, train: list[Example], tested: list[Example]) -> Task:
    """The task with these rows, and a name that tells of them."""
    test = TestSet(IN_DOMAIN, tuple(tested), task.labels, tuple(range(len(task.labels))))
    return replace(task, name=f"{task.name}, {told}", train=tuple(train), test_sets=(test,), held_out=None)


def write_row(row: Example, labels: tuple[str, ...]) -> str:
    """One JSON line: the texts by field name, and the label by its name."""
    assert row.label is not None
    return json.dumps({**row.fields, "label": labels[row.label]}) + "\n"


if __name__ == "__main__":
    write_development_rows(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
