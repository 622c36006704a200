"""RTE, recognising textual entailment (Dagan et al. 2006; as GLUE joins it): https://arxiv.org/abs/1804.07461

Out of domain is HANS, the pairing of Mosbach et al. 2023, https://arxiv.org/abs/2305.16938. Owns reading the
corpus's layouts; does not know how HANS is read (`hans`), or how the hub or a cache works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtune.data.files import find_layout, read_jsonl, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task
from fewtune.tasks.hans import read_hans, read_pair

NAME = "rte"
SOURCE_URL = "https://arxiv.org/abs/1804.07461"
SUMMARY = "Does the premise entail the hypothesis? Out of domain: HANS."

LABELS = ("entailment", "not_entailment")
PATTERNS = (
    Pattern("eval_harness", "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:", (" True", " False")),
    Pattern("gpt_3", "{premise}\nquestion: {hypothesis} Yes or No?\nanswer:", (" Yes", " No")),
    Pattern("minimal", "{premise} {hypothesis} ?", (" Yes", " No")),
)

_HUB_ID = "nyu-mll/glue"
_HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
_JSONL = ("rte/train.jsonl", "rte/dev.jsonl")
_GLUE = ("RTE/train.tsv", "RTE/dev.tsv")


@dataclass(frozen=True)
class Settings:
    """Nothing to set: there is one way to read RTE."""


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read RTE and HANS from `data_dir` (JSONL or GLUE's and HANS's own TSV), else from the hub."""
    if data_dir is None:
        train = _make_pairs(load_hub_rows(_HUB_ID, "rte", "train", _HUB_REVISION), "train", _HUB_ID)
        inside = _make_pairs(load_hub_rows(_HUB_ID, "rte", "validation", _HUB_REVISION), "dev", _HUB_ID)
    else:
        names = (_JSONL, _GLUE)[find_layout(data_dir, (_JSONL, _GLUE))]
        read: Any = read_jsonl if names is _JSONL else read_tsv
        train, inside = (
            _make_pairs(read(data_dir / name), split, str(data_dir / name))
            for split, name in zip(("train", "dev"), names, strict=True)
        )
    hans, notes = read_hans(LABELS, data_dir)
    given = TestSet(IN_DOMAIN, inside, LABELS, tuple(range(len(LABELS))))
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("premise", "hypothesis"),
        labels=LABELS,
        patterns=PATTERNS,
        primary_metric="accuracy",
        train=train,
        test_sets=(given, *hans),
        notes=tuple(notes),
    )
    return build_task(task)


def _make_pairs(rows: Iterable[Mapping[str, Any]], split: str, where: str) -> tuple[Example, ...]:
    pairs: list[Example] = []
    for number, row in enumerate(rows):
        identity = row.get("idx", row.get("index", number))
        pairs.append(Example(f"{split}/{identity}", read_pair(row, where), _read_label(row, where, number)))
    return tuple(pairs)


def _read_label(row: Mapping[str, Any], where: str, number: int) -> int:
    label = row.get("label")
    if label in LABELS:
        return LABELS.index(str(label))
    if isinstance(label, int) and label in (0, 1):
        return label
    raise DataError(f"{where}: row {number + 1} has the label {label!r}. Allowed: 0, 1 or {', '.join(LABELS)}.")
