"""HANS, pairs that shallow heuristics get wrong (McCoy et al. 2019): https://arxiv.org/abs/1902.01007

The out-of-domain test of the inference tasks. Owns reading HANS's layouts, how a task's labels count as its two,
and the two spellings of a pair's columns. Does not know which task asks, beyond its label names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewtune.data.files import read_jsonl, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError
from fewtune.tasks.base import Example, TestSet

HANS = "hans"
HANS_REGENERATED = "hans_regenerated"
"""The test set's name where its pairs are made with HANS's templates and are not its official 30,000."""
HANS_LABELS = ("entailment", "non-entailment")

_HUB_ID = "jhu-cogsci/hans"
# The data set is a script that `datasets` no longer runs; this branch holds its rows. The hub may move it.
_HUB_REVISION = "refs/convert/parquet"
_OFFICIAL = ("hans/heuristics_evaluation_set.txt", "heuristics_evaluation_set.txt")
_GENERATED = "hans/hans_generated_dev.jsonl"
_TEXT_COLUMNS = (("premise", "sentence1"), ("hypothesis", "sentence2"))


def read_hans(labels: Sequence[str], data_dir: Path | None) -> tuple[list[TestSet], list[str]]:
    """HANS from `data_dir` (its own TSV, or regenerated pairs as JSONL), else from the hub, and notes.

    No test set where `data_dir` holds none. Every label of the task but `entailment` counts as non-entailment.
    """
    name, rows, notes = _find_rows(data_dir)
    if not rows:
        return [], notes
    return [TestSet(name, rows, HANS_LABELS, tuple(int(label != HANS_LABELS[0]) for label in labels))], notes


def read_pair(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """The texts of a pair by field name, from either spelling of its columns; raises DataError where one lacks."""
    premise, hypothesis = (row.get(name, row.get(other)) for name, other in _TEXT_COLUMNS)
    if not isinstance(premise, str) or not isinstance(hypothesis, str):
        wanted = " and ".join(f"{name} (or {other})" for name, other in _TEXT_COLUMNS)
        raise DataError(f"{where}: the columns {wanted} must hold text. It has: {', '.join(row)}.")
    return {"premise": premise.strip(), "hypothesis": hypothesis.strip()}


def _find_rows(data_dir: Path | None) -> tuple[str, tuple[Example, ...], list[str]]:
    if data_dir is None:
        return HANS, _make_rows(load_hub_rows(_HUB_ID, "plain_text", "validation", _HUB_REVISION), _HUB_ID), []
    for name in _OFFICIAL:
        if (data_dir / name).is_file():
            return HANS, _make_rows(read_tsv(data_dir / name), str(data_dir / name)), []
    path = data_dir / _GENERATED
    if path.is_file():
        rows = _make_rows(read_jsonl(path, ("sentence1", "sentence2", "gold_label")), str(path))
        note = (
            f"{HANS_REGENERATED} is HANS (regenerated): {len(rows)} pairs made with its published templates, "
            "not its official 30,000."
        )
        return HANS_REGENERATED, rows, [note]
    note = f"No HANS rows in {data_dir}, so nothing is out of domain. Put {_OFFICIAL[0]} there to test on HANS."
    return HANS, (), [note]


def _make_rows(rows: Iterable[Mapping[str, Any]], where: str) -> tuple[Example, ...]:
    pairs: list[Example] = []
    for number, row in enumerate(rows, start=1):
        for column in ("heuristic", "subcase"):
            if column not in row:
                raise DataError(f"{where}: row {number} has no column {column!r}. Take a file of HANS's own.")
        label = row.get("gold_label", row.get("label"))
        gold = HANS_LABELS[label] if isinstance(label, int) and label in (0, 1) else label
        if gold not in HANS_LABELS:
            raise DataError(f"{where}: row {number} has the label {label!r}. Allowed: {', '.join(HANS_LABELS)}.")
        facets = {"heuristic": str(row["heuristic"]), "subcase": str(row["subcase"])}
        texts = read_pair(row, where)
        pairs.append(Example(f"hans/{row.get('pairID', number)}", texts, HANS_LABELS.index(gold), facets))
    return tuple(pairs)
