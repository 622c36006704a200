"""MultiNLI (Williams et al. 2018): https://arxiv.org/abs/1704.05426

Two labels (neutral pairs left out) or three; out of domain is HANS. Owns reading the corpus's layouts; does not
know how HANS is read (`hans`), or how the hub or a cache works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fewtune.data.files import find_layout, read_jsonl, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError
from fewtune.plurals import choose_verb, pluralise
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task
from fewtune.tasks.hans import read_hans, read_pair

NAME = "mnli"
SOURCE_URL = "https://arxiv.org/abs/1704.05426"
SUMMARY = "Does the premise entail or contradict the hypothesis? Out of domain: HANS."

TWO_WAY = ("entailment", "contradiction")
THREE_WAY = ("entailment", "neutral", "contradiction")
TWO_WAY_PATTERNS = (
    Pattern("eval_harness", "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:", (" True", " False")),
    Pattern("gpt_3", "{premise}\nquestion: {hypothesis} Yes or No?\nanswer:", (" Yes", " No")),
    Pattern("minimal", "{premise} {hypothesis} ?", (" Yes", " No")),
    # The prompts of the study being rebuilt, https://arxiv.org/abs/2405.13181, as its released code writes them.
    Pattern("released", "{premise} Question: {hypothesis} Yes or No?", (" Yes", " No")),
    Pattern(
        "released_distillation",
        "Given the premise, does the hypothesis hold true?  Premise: {premise} Hypothesis: {hypothesis}",
        (" Yes", " No"),
    ),
)
THREE_WAY_PATTERNS = (
    Pattern(
        "eval_harness",
        "{premise}\nQuestion: {hypothesis} True, False or Neither?\nAnswer:",
        (" True", " Neither", " False"),
    ),
    Pattern("gpt_3", "{premise}\nquestion: {hypothesis} Yes, No or Maybe?\nanswer:", (" Yes", " Maybe", " No")),
    Pattern("minimal", "{premise} {hypothesis} ?", (" Yes", " Maybe", " No")),
)

_HUB_ID = "nyu-mll/glue"
_HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
_JSONL = ("mnli/train.jsonl", "mnli/dev_matched.jsonl")
_GLUE = ("MNLI/train.tsv", "MNLI/dev_matched.tsv")


@dataclass(frozen=True)
class Settings:
    """What decides which rows and labels are used."""

    three_way: Annotated[
        bool,
        Field(description="Keep the neutral pairs as a third label; otherwise they are left out."),
    ] = False


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read MNLI and HANS from `data_dir` (JSONL or GLUE's and HANS's own TSV), else from the hub."""
    labels = THREE_WAY if settings.three_way else TWO_WAY
    notes: list[str] = []
    if data_dir is None:
        splits = {
            "train": load_hub_rows(_HUB_ID, "mnli", "train", _HUB_REVISION),
            "dev_matched": load_hub_rows(_HUB_ID, "mnli", "validation_matched", _HUB_REVISION),
        }
    else:
        names = (_JSONL, _GLUE)[find_layout(data_dir, (_JSONL, _GLUE))]
        read: Any = (lambda path: read_jsonl(path, ("premise", "hypothesis", "label"))) if names is _JSONL else read_tsv
        splits = {split: read(data_dir / name) for split, name in zip(("train", "dev_matched"), names, strict=True)}
    hans, more = read_hans(labels, data_dir)
    notes.extend(more)
    train = read_pairs(splits["train"], "train", labels, notes)
    inside = read_pairs(splits["dev_matched"], "dev_matched", labels, notes)
    given = TestSet(IN_DOMAIN, inside, labels, tuple(range(len(labels))))
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("premise", "hypothesis"),
        labels=labels,
        patterns=THREE_WAY_PATTERNS if settings.three_way else TWO_WAY_PATTERNS,
        primary_metric="accuracy",
        train=train,
        test_sets=(given, *hans),
        notes=tuple(notes),
    )
    return build_task(task)


def read_pairs(
    rows: Iterable[Mapping[str, Any]], split: str, labels: tuple[str, ...], notes: list[str]
) -> tuple[Example, ...]:
    """The pairs of one of the labels; what is left out is noted. Raises DataError where a label or text is none."""
    pairs: list[Example] = []
    neutral = unlabelled = 0
    for number, row in enumerate(rows):
        label = _name_label(row, split, number)
        if label is None:
            unlabelled += 1
        elif label not in labels:
            neutral += 1
        else:
            identity = row.get("idx", row.get("index", number))
            pairs.append(Example(f"{split}/{identity}", read_pair(row, split), labels.index(label)))
    if neutral:
        notes.append(f"{split}: {pluralise(neutral, 'neutral pair')} left out (three_way keeps them).")
    if unlabelled:
        carry = choose_verb(unlabelled, "carries", "carry")
        notes.append(f"{split}: {pluralise(unlabelled, 'pair')} left out that {carry} no agreed label.")
    return tuple(pairs)


def _name_label(row: Mapping[str, Any], split: str, number: int) -> str | None:
    label = row.get("gold_label", row.get("label"))
    if isinstance(label, int):
        if 0 <= label < len(THREE_WAY):
            return THREE_WAY[label]
        if label == -1:
            return None
    elif label in THREE_WAY:
        return str(label)
    elif label in ("-", "", None):
        return None
    raise DataError(
        f"MNLI {split}: row {number + 1} has the label {label!r}. Allowed: 0, 1, 2 or {', '.join(THREE_WAY)}."
    )
