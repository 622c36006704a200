"""CoLA, the Corpus of Linguistic Acceptability (Warstadt et al. 2019): https://arxiv.org/abs/1805.12471

In domain are sentences from the publications that the training rows come from; out of domain are those from
six others. GLUE's validation split mixes both, so its rows are told apart by their source. Owns reading the
corpus's layouts and that separation; does not know how the hub or a cache works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fewtune.data.files import find_layout, read_jsonl, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task
from fewtune.tasks.texts import leave_words

NAME = "cola"
SOURCE_URL = "https://arxiv.org/abs/1805.12471"
SUMMARY = "Is an English sentence grammatically acceptable? Out of domain: sentences from other publications."

LABELS = ("unacceptable", "acceptable")
PATTERNS = (
    # Twelve were tried on development rows; of three scored on both halves, this is above chance on both
    # (docs/defaults.md).
    Pattern("correct", "{text}\nThis sentence is grammatically", (" wrong", " correct")),
    Pattern("minimal", "{text} ?", (" No", " Yes")),
    Pattern("question", "{text}\nQuestion: Is this sentence grammatical? Yes or No?\nAnswer:", (" No", " Yes")),
    Pattern("yes_or_no", "{text} Yes or No?", (" No", " Yes")),
    # As lm-evaluation-harness asks CoLA.
    Pattern("eval_harness", "{text}\nQuestion: Does this sentence make sense?\nAnswer:", (" no", " yes")),
    # The prompt of the study being rebuilt, https://arxiv.org/abs/2405.13181: the question stands first.
    Pattern("released", "Yes or No? {text}", (" No", " Yes")),
)

OUT_OF_DOMAIN = "out_of_domain"
OUT_OF_DOMAIN_SOURCES = frozenset({"c-05", "clc95", "j_71", "s_97", "swb04", "w_80"})
"""The codes of the publications that no training row comes from."""

_HUB_ID = "nyu-mll/glue"
_HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
# The hub's validation split names no source: its first rows must be exactly the in-domain ones, its rest
# the others.
_HUB_IN_DOMAIN_ROWS = 527
_HUB_TEXT_SHA256 = {
    IN_DOMAIN: "e8bdc1c93e171a1d620a444b79be4d959ceb1277cb550b3cba50367cd35bc7fc",
    OUT_OF_DOMAIN: "361563720902fbbbfa5718381906002994c1ed8481ed85ab5970c845ddc6b0e5",
}
_COLUMNS = ("source", "label", "annotation", "sentence")
_SPLITS = ("in_domain_train", "in_domain_dev", "out_of_domain_dev")
_JSONL = tuple(f"cola/{split}.jsonl" for split in _SPLITS)
_OFFICIAL = tuple(f"cola/official_tsv/{split}.tsv" for split in _SPLITS)
_GLUE = ("CoLA/train.tsv", "CoLA/dev.tsv")


@dataclass(frozen=True)
class Settings:
    """What decides which rows are used."""

    official_rows: Annotated[
        bool,
        Field(
            description="Read the corpus's own TSV files or GLUE's even where a cleaned JSONL "
            "copy lies beside them: the rows published figures are about."
        ),
    ] = False


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read CoLA from `data_dir` (JSONL, the corpus's TSV, or GLUE's TSV), else from the hub."""
    if data_dir is None:
        train, inside, outside = _read_hub()
    else:
        layouts = [_OFFICIAL, _GLUE] if settings.official_rows else [_JSONL, _OFFICIAL, _GLUE]
        names = layouts[find_layout(data_dir, layouts)]
        paths = [data_dir / name for name in names]
        if names is _GLUE:
            train = _make_rows(read_tsv(paths[0], _COLUMNS), "train", paths[0])
            dev = _make_rows(read_tsv(paths[1], _COLUMNS), "dev", paths[1])
            inside, outside = _split_by_source(dev)
        else:
            read: Any = read_jsonl if names is _JSONL else read_tsv
            columns = ("sentence", "label", "source") if names is _JSONL else _COLUMNS
            train, inside, outside = (
                _make_rows(read(path, columns), split, path) for split, path in zip(_SPLITS, paths, strict=True)
            )
    _check_sources(train, "training")
    _check_sources(inside, "in-domain")
    identity = tuple(range(len(LABELS)))
    given = (TestSet(IN_DOMAIN, inside, LABELS, identity), TestSet(OUT_OF_DOMAIN, outside, LABELS, identity))
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("text",),
        labels=LABELS,
        patterns=PATTERNS,
        primary_metric="mcc",
        train=train,
        test_sets=given,
    )
    return build_task(task)


def _make_rows(rows: Iterable[dict[str, Any]], split: str, path: Path) -> tuple[Example, ...]:
    examples: list[Example] = []
    for number, row in enumerate(rows, start=1):
        if str(row["label"]) not in ("0", "1"):
            raise DataError(f"{path}: row {number} has the label {row['label']!r}. Allowed: 0, 1.")
        text = str(row["sentence"]).strip()
        facets = {"source": str(row["source"])} if "source" in row else {}
        examples.append(Example(f"{split}/{row.get('line', number)}", {"text": text}, int(row["label"]), facets))
    return tuple(examples)


def _split_by_source(rows: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    outside = tuple(row for row in rows if row.facets["source"] in OUT_OF_DOMAIN_SOURCES)
    inside = tuple(row for row in rows if row.facets["source"] not in OUT_OF_DOMAIN_SOURCES)
    if not inside or not outside:
        raise DataError("CoLA/dev.tsv holds only one of in-domain and out-of-domain rows. Take GLUE's own file.")
    return inside, outside


def _check_sources(rows: Sequence[Example], what: str) -> None:
    strangers = [row for row in rows if row.facets.get("source") in OUT_OF_DOMAIN_SOURCES]
    if strangers:
        raise DataError(
            f"CoLA: {len(strangers)} of the {len(rows)} {what} rows come from out-of-domain sources "
            f"({strangers[0].row_id} from {strangers[0].facets['source']}). "
            "Out-of-domain rows must not count as in-domain: take the corpus's own files."
        )


def _read_hub() -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    where = Path(_HUB_ID)
    train = _make_rows(load_hub_rows(_HUB_ID, "cola", "train", _HUB_REVISION), "train", where)
    dev = _make_rows(load_hub_rows(_HUB_ID, "cola", "validation", _HUB_REVISION), "dev", where)
    inside, outside = dev[:_HUB_IN_DOMAIN_ROWS], dev[_HUB_IN_DOMAIN_ROWS:]
    for name, rows in ((IN_DOMAIN, inside), (OUT_OF_DOMAIN, outside)):
        if hash_texts(rows) != _HUB_TEXT_SHA256[name]:
            raise DataError(
                f"{_HUB_ID}: the rows of CoLA's validation split are not the expected ones, so in-domain and "
                "out-of-domain rows cannot be told apart. Give the corpus's own files with --data-dir."
            )
    return train, inside, outside


def hash_texts(rows: Iterable[Example]) -> str:
    """SHA-256 over the texts' words, in order."""
    return hashlib.sha256("\n".join(leave_words(row.fields["text"]) for row in rows).encode()).hexdigest()
