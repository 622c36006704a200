"""Questions to a chat bot by topic, of the ChatterBot corpus: https://github.com/gunthercox/chatterbot-corpus

Fourteen topics of unequal size, many with few rows: what a help desk's first labels look like. Owns reading the corpus,
which topics have rows enough, and the split; does not know how the archive is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from fewtune.data.archives import read_member
from fewtune.data.packages import fetch_package
from fewtune.errors import DataError
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task, drop_repeats
from fewtune.tasks.texts import normalise_text, text_fraction

NAME = "questions"
SOURCE_URL = "https://github.com/gunthercox/chatterbot-corpus"
SUMMARY = "Questions to a chat bot by topic; fourteen topics of unequal size."

TOPICS = {
    "ai": "artificial intelligence",
    "botprofile": "itself",
    "coding": "programming",
    "conversations": "small talk",
    "emotion": "feelings",
    "food": "food",
    "literature": "books",
    "money": "money",
    "movies": "films",
    "politics": "politics",
    "psychology": "psychology",
    "science": "science",
    "sports": "sports",
    "trivia": "trivia",
}
"""Files of the corpus with at least twelve questions that no file before has, and what their topics are called."""

_WHEEL = "chatterbot_corpus-1.3.3-py2.py3-none-any.whl"
_SHA256 = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
_FOLDER = "chatterbot_corpus/data/english"
_TEST_FRACTION = 0.3


@dataclass(frozen=True)
class Settings:
    """Which topics are read."""

    fewest_rows: Annotated[
        int, Field(ge=12, le=100, description="Topics with fewer questions than this are left out.")
    ] = 12


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read the questions from the package, in `data_dir` or else fetched."""
    wheel = data_dir / _WHEEL if data_dir is not None and (data_dir / _WHEEL).is_file() else None
    if wheel is None:
        wheel = fetch_package("chatterbot-corpus", "1.3.3", _SHA256)
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for file in TOPICS:
        new: dict[str, str] = {}
        for text in _read_questions(read_member(wheel, f"{_FOLDER}/{file}.yml"), file):
            new.setdefault(normalise_text(text), text)
        found[file] = [text for key, text in new.items() if key not in seen]
        seen |= new.keys()
    kept = [file for file, texts in found.items() if len(texts) >= settings.fewest_rows]
    labels = tuple(TOPICS[file] for file in kept)
    rows, repeats = drop_repeats(
        [
            Example(f"{file}/{number}", {"text": text}, label)
            for label, file in enumerate(kept)
            for number, text in enumerate(found[file])
        ],
        NAME,
    )
    held_out = tuple(row for row in rows if text_fraction(row) < _TEST_FRACTION)
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=1,
        fields=("text",),
        labels=labels,
        patterns=(
            Pattern("topic", "{text}\nTopic:", tuple(f" {label}" for label in labels)),
            Pattern("about", 'Question: "{text}" It is about', tuple(f" {label}" for label in labels)),
        ),
        primary_metric="macro_f1",
        train=tuple(row for row in rows if text_fraction(row) >= _TEST_FRACTION),
        test_sets=(TestSet(IN_DOMAIN, held_out, labels, tuple(range(len(labels)))),),
        notes=tuple(repeats),
    )
    return build_task(task)


def _read_questions(content: bytes, file: str) -> list[str]:
    """The first line of each conversation, which is the question."""
    try:
        conversations = yaml.safe_load(content)["conversations"]
        return [text for each in conversations if each and (text := " ".join(str(each[0]).split()))]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{file}.yml: no conversations as the corpus has them.") from error
