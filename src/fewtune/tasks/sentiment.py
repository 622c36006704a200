"""Rated snippets of VADER (Hutto and Gilbert 2014): https://ojs.aaai.org/index.php/ICWSM/article/view/14550

Movie reviews train and test in domain; product reviews, newspaper editorials and tweets are out of domain.
The label is the sign of a mean rating by twenty people, from -4 to 4. Owns reading those ratings and the
split; does not know how the archive is fetched.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fewtune.data.archives import read_member
from fewtune.data.packages import fetch_package
from fewtune.errors import DataError
from fewtune.plurals import pluralise
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task, drop_repeats
from fewtune.tasks.texts import text_fraction

NAME = "sentiment"
SOURCE_URL = "https://ojs.aaai.org/index.php/ICWSM/article/view/14550"
SUMMARY = "Movie-review snippets, negative or positive; out of domain: product reviews, editorials, tweets."

LABELS = ("negative", "positive")
PATTERNS = (
    Pattern("sentiment", "{text}\nSentiment:", (" negative", " positive")),
    Pattern("review", "Review: {text}\nSentiment:", (" negative", " positive")),
    Pattern("it_was", "{text} It was", (" terrible", " great")),
)

_SDIST = "vaderSentiment-3.3.2.tar.gz"
_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_FILES = {
    IN_DOMAIN: "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}
_TEST_FRACTION = 0.25


@dataclass(frozen=True)
class Settings:
    """What decides which rows are used."""

    neutral_below: Annotated[
        float,
        Field(
            ge=0,
            lt=4,
            description="Rows whose mean rating is nearer to 0 than this (scale -4 to 4) are left out.",
        ),
    ] = 1.0


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read the four rated sets from the package's source archive, in `data_dir` or else fetched."""
    archive = data_dir / _SDIST if data_dir is not None and (data_dir / _SDIST).is_file() else None
    if archive is None:
        archive = fetch_package("vaderSentiment", "3.3.2", _SHA256, kind="sdist")
    inner = read_member(archive, _INNER_ARCHIVE)
    notes: list[str] = []
    neutral: dict[str, int] = {}
    rows: dict[str, tuple[Example, ...]] = {}
    for name, file in _FILES.items():
        content = read_member(inner, f"hutto_ICWSM_2014/{file}_GroundTruth.txt")
        read, neutral[name] = _read_ratings(content, file, settings.neutral_below)
        rows[name], repeats = drop_repeats(read, name)
        notes += repeats
    if any(neutral.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in neutral.items())
        rule = f"mean rating 0 or nearer to 0 than {settings.neutral_below:g}"
        notes.insert(0, f"rows left out as neutral ({rule}): {counts}.")
    identity = tuple(range(len(LABELS)))
    held_out = tuple(row for row in rows[IN_DOMAIN] if text_fraction(row) < _TEST_FRACTION)
    train = tuple(row for row in rows[IN_DOMAIN] if text_fraction(row) >= _TEST_FRACTION)
    test_rows = {**rows, IN_DOMAIN: held_out}
    given = [TestSet(name, kept, LABELS, identity) for name, kept in test_rows.items()]
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("text",),
        labels=LABELS,
        patterns=PATTERNS,
        primary_metric="accuracy",
        train=train,
        test_sets=tuple(given),
        notes=tuple(notes),
    )
    return build_task(task)


def _read_ratings(content: bytes, file: str, neutral_below: float) -> tuple[list[Example], int]:
    rows: list[Example] = []
    neutral = 0
    for number, line in enumerate(content.decode("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != 3:
            raise DataError(
                f"{file}: line {number} has {pluralise(len(cells), 'cell')} where 3 are due (id, rating, text)."
            )
        rating = float(cells[1])
        text = html.unescape(cells[2]).strip()
        if rating == 0 or math.fabs(rating) < neutral_below:
            neutral += 1
        elif text:
            rows.append(Example(f"{file}/{cells[0]}", {"text": text}, int(rating > 0)))
    return rows, neutral
