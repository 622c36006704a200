"""MultiNLI (Williams et al. 2018): https://arxiv.org/abs/1704.05426

Out of domain is HANS (McCoy et al. 2019): https://arxiv.org/abs/1902.01007

Two labels (neutral pairs left out) or three. Owns reading both corpora's layouts and how three labels count
as HANS's two; does not know how the hub or a cache works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fewtune.errors import DataError
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.sources import (
    drop_repeats,
    find_layout,
    fingerprint_rows,
    load_hub_rows,
    read_jsonl,
    read_tsv,
    separate_sets,
)

NAME = "mnli"
SOURCE_URL = "https://arxiv.org/abs/1704.05426"
SUMMARY = "Does the premise entail or contradict the hypothesis? Out of domain: HANS."

HANS = "hans"
HANS_REGENERATED = "hans_regenerated"
"""The test set's name where its pairs are made with HANS's templates and are not its official 30,000."""
HANS_LABELS = ("entailment", "non-entailment")
TWO_WAY = ("entailment", "contradiction")
THREE_WAY = ("entailment", "neutral", "contradiction")
TWO_WAY_PATTERNS = (
    Pattern("eval_harness", "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:", (" True", " False")),
    Pattern("gpt_3", "{premise}\nquestion: {hypothesis} Yes or No?\nanswer:", (" Yes", " No")),
    Pattern("minimal", "{premise} {hypothesis} ?", (" Yes", " No")),
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
_HANS_HUB_ID = "jhu-cogsci/hans"
# The data set is a script that `datasets` no longer runs; this branch holds its rows. The hub may move it.
_HANS_HUB_REVISION = "refs/convert/parquet"
_JSONL = ("mnli/train.jsonl", "mnli/dev_matched.jsonl")
_GLUE = ("MNLI/train.tsv", "MNLI/dev_matched.tsv")
_HANS_OFFICIAL = ("hans/heuristics_evaluation_set.txt", "heuristics_evaluation_set.txt")
_TEXT_COLUMNS = (("premise", "sentence1"), ("hypothesis", "sentence2"))
_HANS_GENERATED = "hans/hans_generated_dev.jsonl"


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
        hans_name = HANS
        hans: tuple[Example, ...] = _make_hans(
            load_hub_rows(_HANS_HUB_ID, "plain_text", "validation", _HANS_HUB_REVISION), _HANS_HUB_ID
        )
    else:
        names = (_JSONL, _GLUE)[find_layout(data_dir, (_JSONL, _GLUE))]
        read: Any = (lambda path: read_jsonl(path, ("premise", "hypothesis", "label"))) if names is _JSONL else read_tsv
        splits = {split: read(data_dir / name) for split, name in zip(("train", "dev_matched"), names, strict=True)}
        hans_name, hans = _read_hans(data_dir, notes)
    train = _make_pairs(splits["train"], "train", labels, notes)
    inside = _make_pairs(splits["dev_matched"], "dev_matched", labels, notes)
    train, more = drop_repeats(train, "train")
    notes.extend(more)
    given = [TestSet(IN_DOMAIN, inside, labels, tuple(range(len(labels))))]
    if hans:
        given.append(TestSet(hans_name, hans, HANS_LABELS, tuple(int(label != "entailment") for label in labels)))
    train, test_sets, more = separate_sets(train, given)
    return Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("premise", "hypothesis"),
        labels=labels,
        patterns=THREE_WAY_PATTERNS if settings.three_way else TWO_WAY_PATTERNS,
        primary_metric="accuracy",
        train=train,
        test_sets=test_sets,
        fingerprint=fingerprint_rows(train, test_sets),
        notes=(*notes, *more),
    )


def _make_pairs(
    rows: Iterable[Mapping[str, Any]], split: str, labels: tuple[str, ...], notes: list[str]
) -> tuple[Example, ...]:
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
            pairs.append(Example(f"{split}/{identity}", _pair_texts(row, split), labels.index(label)))
    if neutral:
        notes.append(f"{split}: {neutral} neutral pairs left out (three_way keeps them).")
    if unlabelled:
        notes.append(f"{split}: {unlabelled} pairs left out that carry no agreed label.")
    return tuple(pairs)


def _pair_texts(row: Mapping[str, Any], where: str) -> dict[str, str]:
    premise, hypothesis = (row.get(name, row.get(other)) for name, other in _TEXT_COLUMNS)
    if not isinstance(premise, str) or not isinstance(hypothesis, str):
        wanted = " and ".join(f"{name} (or {other})" for name, other in _TEXT_COLUMNS)
        raise DataError(f"{where}: the columns {wanted} must hold text. It has: {', '.join(row)}.")
    return {"premise": premise.strip(), "hypothesis": hypothesis.strip()}


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


def _read_hans(data_dir: Path, notes: list[str]) -> tuple[str, tuple[Example, ...]]:
    for name in _HANS_OFFICIAL:
        if (data_dir / name).is_file():
            return HANS, _make_hans(read_tsv(data_dir / name), str(data_dir / name))
    path = data_dir / _HANS_GENERATED
    if path.is_file():
        rows = _make_hans(read_jsonl(path, ("sentence1", "sentence2", "gold_label")), str(path))
        notes.append(
            f"{HANS_REGENERATED} is HANS (regenerated): {len(rows)} pairs made with its published templates, "
            "not its official 30,000."
        )
        return HANS_REGENERATED, rows
    notes.append(
        f"No HANS rows in {data_dir}, so nothing is out of domain. Put {_HANS_OFFICIAL[0]} there to test on HANS."
    )
    return HANS, ()


def _make_hans(rows: Iterable[Mapping[str, Any]], where: str) -> tuple[Example, ...]:
    pairs: list[Example] = []
    for number, row in enumerate(rows, start=1):
        label = row.get("gold_label", row.get("label"))
        gold = HANS_LABELS[label] if isinstance(label, int) and label in (0, 1) else label
        if gold not in HANS_LABELS:
            raise DataError(f"{where}: row {number} has the label {label!r}. Allowed: {', '.join(HANS_LABELS)}.")
        facets = {"heuristic": str(row["heuristic"]), "subcase": str(row["subcase"])}
        texts = _pair_texts(row, where)
        pairs.append(Example(f"hans/{row.get('pairID', number)}", texts, HANS_LABELS.index(gold), facets))
    return tuple(pairs)
