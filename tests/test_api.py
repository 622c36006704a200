"""fewtune from Python: what its examples show, studies given as values, and results handed out."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fewtune
from fewtune import api, estimator
from fewtune.engine.readouts import LabelWordReadout
from fewtune.errors import DataError, FewtuneError, RecordError, StudyError
from fewtune.models import place_model
from fewtune.running.executors.in_process import InProcess
from fewtune.running.job import Finished, Progressed, Started
from fewtune.running.run_study import Closed, Opened, Prepared, Preparing, StudyEvent
from fewtune.study import load_study, read_settings, read_study

readout_read = LabelWordReadout.read


@pytest.mark.usefixtures("no_workers")
def test_the_examples_of_every_public_name_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    # In the order of a session: what one example leaves, the next reads.
    places = {"run_study": api, "analyse": api, "fit": api, "load": api, "FewtuneClassifier": estimator}
    assert sorted(places) == sorted(fewtune.__all__)
    for name, module in places.items():
        assert getattr(fewtune, name) is getattr(module, name)
        (example,) = finder.find(getattr(module, name), name)
        assert example.examples, f"{name} has no example"
        assert runner.run(example).failed == 0, name
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = fewtune.fits  # type: ignore[attr-defined]


@pytest.fixture
def values(study_file: Path) -> dict[str, object]:
    """A small study as values."""
    task = {"own_files": {"train": study_file.parent / "feelings.csv", "as": "feelings"}}
    return {
        "name": "values",
        "tasks": [task],
        "methods": ["majority", "tfidf"],
        "shots": [4],
        "data_seeds": range(2),
        "baselines": False,
    }


def test_what_is_no_list_of_rows_is_refused_and_not_read_by_its_names() -> None:
    model = fewtune.fit(["good box", "bad box"] * 4, ["praise", "complaint"] * 4, "tfidf")
    frame = pd.DataFrame({"text": ["good box"]})
    for given, words in (("good box", "one text"), ({"text": "good box"}, "one mapping")):
        for ask in (model.predict, model.predict_probabilities, model.count_tokens):
            with pytest.raises(DataError, match=f"a list of rows is read, and {words} was given: put it into a list"):
                ask(given)  # type: ignore[operator]
    with pytest.raises(DataError, match="a list of rows is read, and a table was given: give one column's texts"):
        model.predict(frame)  # type: ignore[arg-type]
    assert model.predict(frame["text"]) == model.predict(frame.to_dict("records")) == ["praise"]
    with pytest.raises(DataError, match="a list of rows is read, and a table was given"):
        fewtune.fit(frame, ["praise"], "tfidf")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a list of labels is read, and one text was given"):
        fewtune.fit(["a", "b", "c"], "aab", "tfidf")


def test_half_a_character_is_told_with_its_row_before_and_after_a_fit() -> None:
    texts, labels = ["good box", "bad box"] * 4, ["praise", "complaint"] * 4
    with pytest.raises(DataError, match="row 9 holds half a character"):
        fewtune.fit([*texts, "half \ud83d"], [*labels, "praise"], "tfidf")
    with pytest.raises(DataError, match="row 9 has the label"):
        fewtune.fit([*texts, "whole"], [*labels, "praise \ud83d"], "tfidf")
    with pytest.raises(DataError, match="row 2: text text holds half a character"):
        fewtune.fit(texts, labels, "tfidf").predict(["whole", "half \ud83d"])


def test_values_a_file_and_a_study_are_one_study(values: dict[str, object], tmp_path: Path) -> None:
    study = read_study(values)
    path = tmp_path / "study.yaml"
    path.write_text(study.to_yaml())
    assert load_study(path) == study == read_study(study.model_dump(mode="json") | values)


def test_every_character_of_a_value_reaches_the_study() -> None:
    given = "mood 😀🎉 (half: \\ud83d\\ude00), é, \u2028, 𝒜\n"
    assert read_settings("in_context", {"separator": given})["separator"] == given


def test_a_pattern_that_nothing_reads_is_refused() -> None:
    for method, settings in (("contrastive", {}), ("vanilla", {"prompted": False})):
        with pytest.raises(StudyError, match=f"{method} reads plain texts so: leave `pattern` out"):
            read_settings(method, {**settings, "pattern": "feeling"})
    assert read_settings("vanilla", {"prompted": True, "pattern": "feeling"})["pattern"] == "feeling"
    tuned = {"vanilla": {"pattern": "feeling", "grid": {"prompted": [True, False]}}}
    study = {"name": "a", "models": ["m"], "tasks": ["sentiment"], "shots": [4], "tuning": {"trials": 2}}
    assert read_study({**study, "methods": [tuned]}).methods, "one of the two reads it"


def test_every_fault_of_a_study_given_as_values_is_told_at_once(values: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        fewtune.run_study({**values, "shots": [0], "colour": "red", "methods": ["majorty"]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = str(caught.value)
    assert len(caught.value.faults) == 3 and "line " not in told
    assert "Did you mean 'majority'?" in told and "colour" in told and "shots" in told
    with pytest.raises(StudyError, match="it holds what no study file can: a set"):
        read_study({**values, "shots": {4}})
    with pytest.raises(StudyError, match="it holds what no study file can"):
        read_study({**values, "equivalence": float("nan")})


def test_a_skewed_file_runs_stratified_as_the_refusal_of_balanced_draws_advises(tmp_path: Path) -> None:
    rows = [f"{label} text {i},{label}" for label, count in (("a", 24), ("b", 8), ("c", 2)) for i in range(count)]
    (tmp_path / "skewed.csv").write_text("\n".join(["text,label", *rows]))
    task = {"own_files": {"train": tmp_path / "skewed.csv"}}
    study = {
        "name": "skewed",
        "tasks": [task],
        "methods": ["tfidf"],
        "shots": [12],
        "data_seeds": [0, 1],
        "baselines": False,
    }
    with pytest.raises(StudyError, match=r"'c' has 1 beside .* or set `sampling: stratified`"):
        fewtune.run_study(study, tmp_path / "balanced", executor=InProcess())
    result = fewtune.run_study({**study, "sampling": "stratified"}, tmp_path / "out", executor=InProcess())
    assert [record.status for record in result.records] == ["done", "done"]
    natural = fewtune.run_study(
        {**study, "sampling": "natural", "data_seeds": [0]}, tmp_path / "n", executor=InProcess()
    )
    ids = {record.trial_id for record in (*result.records, *natural.records)}
    assert len(ids) == 3, "how draws are sampled is part of a trial's identity"


def test_a_study_runs_reuses_and_is_handed_out(values: dict[str, object], tmp_path: Path) -> None:
    heard: list[StudyEvent] = []
    out = tmp_path / "out"
    result = fewtune.run_study(values, out, executor=InProcess(), on_event=heard.append)
    ends = [type(event) for event in heard if not isinstance(event, Progressed)]
    assert ends == [Preparing, Prepared, Opened, *[Started, Finished] * 4, Closed]
    table = result.table()
    assert isinstance(table, pl.DataFrame) and set(table["variant"]) == {"majority", "tfidf"}
    assert table.height == 2 and table["draws"].to_list() == [2, 2] and table["low"].null_count() == 0
    assert result.name == "values" and len(result.records) == 4
    assert repr(result) == f"<StudyResult 'values': 4 done; in {out}>"
    assert [result.decision] == list(result.decisions) and result.decision.question.shots == 4
    assert result.answer.startswith("feelings · 4 shots: ") and result.answer.endswith(".")
    assert f"<p>{result.answer}</p>" in result._repr_html_() and "<table" in result._repr_html_()
    assert result.write_report().is_file()
    heard.clear()
    again = fewtune.run_study(values, out, executor=InProcess(), on_event=heard.append)
    assert [type(event) for event in heard] == [Preparing, Prepared, Opened, Closed]
    assert again.table().equals(table)
    assert fewtune.analyse(out).table().equals(table)
    with pytest.raises(RecordError, match="holds another study"):
        fewtune.run_study({**values, "pool_rows": 2}, out, executor=InProcess())
    with pytest.raises(FewtuneError, match="give data_dir in the executor's WorkerOptions"):
        fewtune.run_study(values, out, executor=InProcess(), data_dir=tmp_path)


def test_charts_are_altairs_and_names_are_checked(values: dict[str, object], tmp_path: Path) -> None:
    result = fewtune.run_study(values, tmp_path / "out", executor=InProcess())
    assert result.plot().to_dict()["title"]["text"][0].startswith("feelings · 4 shots: ")
    assert result.plot("scores").to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    with pytest.raises(FewtuneError, match="unknown kind of chart 'score'"):
        result.plot("score")
    with pytest.raises(FewtuneError, match="group is 3; this study has 1"):
        result.plot("scores", group=3)


SCRIPT = """
import sys
import fewtune
print("begins")
result = fewtune.run_study(sys.argv[1], sys.argv[2])
print("ends with", len(result.records))
"""


def test_a_script_without_a_guard_runs_its_study_in_worker_processes(values: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "study.yaml").write_text(read_study(values).to_yaml())
    command = [sys.executable, "script.py", "study.yaml", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n") == ["begins", "ends with 4", ""], done.stderr


@pytest.mark.parametrize(
    ("method", "model", "settings"),
    [("majority", False, {}), ("in_context", True, {"demonstrations": 2}), ("lora", True, {"epochs": 2, "rank": 2})],
)
def test_a_method_fitted_on_rows_saves_and_loads(
    method: str, model: bool, settings: dict[str, object], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    texts = ["the cook is a joy to know", "a pilot was kind", "this kettle broke", "the old band was rude"]
    labels = ["good", "good", "bad", "bad"]
    name = str(model_folders["llama"]) if model else None
    predictor = fewtune.fit(texts, labels, method, name, **settings)
    assert predictor.labels == ("bad", "good") and predictor.origin["method"] == method
    assert "labels=('bad', 'good')" in repr(predictor) and "scorer" not in repr(predictor)
    expected = predictor.predict_probabilities(texts)
    predictor.save(tmp_path / "saved")
    loaded = fewtune.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_probabilities(texts), expected)
    assert loaded.origin["settings"].items() >= settings.items() and loaded.origin["rows"] == 4
    again = fewtune.fit(texts, labels, method, name, **settings)
    np.testing.assert_array_equal(again.predict_probabilities(texts), expected)


def test_a_model_fitted_on_a_folder_nearby_loads_from_elsewhere(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folders["llama"]
    monkeypatch.chdir(folder.parent)
    fitted = fewtune.fit(["kind", "rude"], ["good", "bad"], "in_context", f"./{folder.name}", demonstrations=2)
    fitted.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    again = fewtune.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_probabilities(["so"]), fitted.predict_probabilities(["so"]))
    monkeypatch.chdir(folder.parent)
    taught = {"teacher": f"./{folder.name}", "variant": "full", "epochs": 1, "demonstrations": 2, "calibration": "none"}
    texts, labels = ["kind", "rude", "warm", "cold"], ["good", "bad", "good", "bad"]
    itself = fewtune.fit(texts, labels, "context_distillation", f"./{folder.name}", **taught)
    assert itself.predict_probabilities(["so"]).shape == (1, 2), "a model may teach itself by a path"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    assert place_model("smollm2-135m") == "smollm2-135m", "a packaged model is not hidden by a folder"


def test_series_and_arrays_are_rows_and_labels_are_read_without_the_spaces_around_them() -> None:
    texts, labels = ["warm", "kind", "cold", "rude"], ["good ", "good", " bad", "bad"]
    fitted = fewtune.fit(pd.Series(texts), pd.Series(labels), "tfidf")
    assert fitted.labels == ("bad", "good")
    expected = ["good", "good", "bad", "bad"]
    for rows in (texts, pd.Series(texts), np.array(texts), pl.Series(texts), iter(texts)):
        assert fitted.predict(rows) == expected
    assert fitted.predict(np.array([], dtype=str)) == []


def test_an_executor_of_no_known_name_is_told(values: dict[str, object]) -> None:
    with pytest.raises(FewtuneError, match="executor is 'local': give 'ray', or nothing for worker processes"):
        fewtune.run_study(values, executor="local")  # type: ignore[arg-type]


def test_a_fit_that_diverges_is_told(model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelWordReadout, "read", lambda readout, *given: readout_read(readout, *given) * math.nan)
    with pytest.raises(FewtuneError, match="lora could not be fitted: the loss became nan at step 1"):
        fewtune.fit(["kind", "rude"], ["good", "bad"], "lora", str(model_folders["llama"]), epochs=2)


def test_what_cannot_be_fitted_is_told(model_folders: dict[str, Path]) -> None:
    texts = ["one", "two"]
    with pytest.raises(DataError, match="2 rows and 1 label given"):
        fewtune.fit(texts, ["a"], "majority")
    with pytest.raises(DataError, match=r"1 label given \(a\): give rows of at least two"):
        fewtune.fit(texts, ["a", "a"], "majority")
    with pytest.raises(DataError, match="row 2 should have a text text and no other"):
        fewtune.fit(["one", {"texts": "two"}], ["a", "b"], "majority")
    with pytest.raises(StudyError, match="Did you mean 'lora'"):
        fewtune.fit(texts, ["a", "b"], "lorra")
    with pytest.raises(StudyError, match="rank"):
        fewtune.fit(texts, ["a", "b"], "lora", str(model_folders["llama"]), rank=0)
    with pytest.raises(StudyError, match="only a study chooses from a grid"):
        fewtune.fit(texts, ["a", "b"], "tfidf", grid={"inverse_penalty": [1.0]})
    with pytest.raises(StudyError, match="only a study lists models"):
        fewtune.fit(texts, ["a", "b"], "tfidf", models=["smollm2-135m"])
    with pytest.raises(FewtuneError, match="lora needs a model: name one"):
        fewtune.fit(texts, ["a", "b"], "lora")
    with pytest.raises(FewtuneError, match=r"bitfit cannot be used on .* has no biases"):
        fewtune.fit(texts, ["a", "b"], "bitfit", str(model_folders["llama"]))
