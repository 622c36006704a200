"""Words of texts: runs of letters, and single signs where a script puts no spaces between words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fewtune
from changed_folders import change_manifest
from fewtune.exporting.export import export_model, read_export
from fewtune.predictors.words import WORDS
from fewtune.prompts.calibration import write_random_texts
from fewtune.tasks.base import Example

GOOD, BAD = ("很好", "喜欢", "不错"), ("很差", "失望", "太慢")
THINGS = ("这家店的服务", "昨天买的鞋子", "新出的电影", "楼下的面馆", "他们的快递", "这本书")
SAID = ("很好吗", "太慢")
ENGLISH = [Example(str(place), {"a": "one", "b": "what does 爱 mean"}, None) for place in range(9)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 42!", ["It", "'", "s", "42", "!"]),
        ("naïve Straße", ["naïve", "Straße"]),
        ("iPhone很好,ok", ["iPhone", "很", "好", ",", "ok"]),
        ("한국어 문장", ["한국어", "문장"]),
    ],
)
def test_signs_of_unspaced_scripts_are_words_and_runs_of_letters_are_what_they_were(
    text: str, words: list[str]
) -> None:
    assert re.findall(WORDS["runs_and_signs"], text) == words
    if "很" not in text:
        assert re.findall(WORDS["runs"], text) == words


def test_texts_without_spaces_are_told_apart_saved_and_exported_alike(tmp_path: Path) -> None:
    texts = [thing + word for thing in THINGS for word in (*GOOD, *BAD)]
    labels = [label for _ in THINGS for label in ("good",) * 3 + ("bad",) * 3]
    taught = [place for place in range(len(texts)) if place % 5]
    left = [place for place in range(len(texts)) if not place % 5]
    predictor = fewtune.fit([texts[place] for place in taught], [labels[place] for place in taught], "tfidf")
    asked = [texts[place] for place in left]
    assert predictor.predict(asked) == [labels[place] for place in left]
    predictor.save(tmp_path / "saved")
    expected = predictor.predict_probabilities(asked)
    np.testing.assert_array_equal(fewtune.load(tmp_path / "saved").predict_probabilities(asked), expected)
    found = export_model(tmp_path / "saved", tmp_path / "out")
    rows = [{"text": text} for text in asked]
    np.testing.assert_allclose(read_export(tmp_path / "out", found, predictor.labels, rows), expected, atol=1e-9)


def test_a_model_that_does_not_say_what_a_word_is_reads_runs_of_letters(tmp_path: Path) -> None:
    fewtune.fit(["一 二", "三 四"], ["a", "b"], "tfidf").save(tmp_path / "saved")
    change_manifest(tmp_path / "saved", lambda content: content["scorer"].pop("words"))
    assert fewtune.load(tmp_path / "saved").scorer.words == "runs"  # type: ignore[attr-defined]


def test_random_texts_are_of_words_or_of_signs() -> None:
    rows = [
        Example(str(place), {"a": "one two three", "b": text}, None) for place, text in enumerate(("很好吗", "太慢"))
    ]
    for text in write_random_texts([*rows, *ENGLISH], np.random.default_rng(0)):
        assert set(text.fields["b"].split()) <= {"what", "does", "爱", "mean", *SAID}, "one sign does not make a script"
    for text in write_random_texts(rows, np.random.default_rng(0)):
        assert set(text.fields["a"].split()) <= {"one", "two", "three"} and len(text.fields["a"].split()) == 3
        assert set(text.fields["b"]) <= set("很好吗太慢") and len(text.fields["b"]) == 2
