"""The scikit-learn classifier: scikit-learn's own checks, every kind of rows and labels, and what is refused."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import fewtune
import tiny_models
from fewtune import FewtuneClassifier
from fewtune.errors import ArgumentError, FewtuneError, NoChoiceError
from praise_and_complaints import LABELS, TEXTS

PAIRS = [(text, f"said {noun}") for text, noun in zip(TEXTS, "abcdefghijkl", strict=True)]


class WriteNumbers(TransformerMixin, BaseEstimator):
    """A text a row of numbers: what scikit-learn's checks give, as rows that this classifier reads."""

    def fit(self, X: Any, y: Any = None) -> WriteNumbers:  # noqa: N803 - scikit-learn's name
        validate_data(self, X)
        return self

    def transform(self, X: Any) -> list[str]:  # noqa: N803
        rows = validate_data(self, X, reset=False)
        return [" ".join(f"{place}is{value:.1f}".replace(".", "p") for place, value in enumerate(row)) for row in rows]


NUMBERS = "its rows are numbers, which are refused; run behind a step that writes them as texts"
FLAT = "it makes X one column, as the tags allow, and then reads a second; run behind a step that writes texts"
NO_TEXTS = {
    "check_fit_score_takes_y": NUMBERS,
    "check_estimators_overwrite_params": NUMBERS,
    "check_dont_overwrite_parameters": FLAT,
    "check_estimators_fit_returns_self": NUMBERS,
    "check_readonly_memmap_input": NUMBERS,
    "check_n_features_in_after_fitting": NUMBERS,
    "check_positive_only_tag_during_fit": NUMBERS,
    "check_estimators_dtypes": NUMBERS,
    "check_dtype_object": NUMBERS,
    "check_pipeline_consistency": NUMBERS,
    "check_estimators_nan_inf": NUMBERS,
    "check_estimator_sparse_array": FLAT,
    "check_estimator_sparse_matrix": FLAT,
    "check_estimators_pickle": NUMBERS,
    "check_f_contiguous_array_estimator": FLAT,
    "check_classifier_data_not_an_array": NUMBERS,
    "check_classifiers_classes": NUMBERS,
    "check_classifiers_train": NUMBERS,
    "check_supervised_y_2d": NUMBERS,
    "check_methods_sample_order_invariance": FLAT,
    "check_methods_subset_invariance": FLAT,
    "check_fit2d_1sample": FLAT,
    "check_fit2d_1feature": FLAT,
    "check_dict_unchanged": FLAT,
    "check_fit_idempotent": NUMBERS,
    "check_fit_check_is_fitted": NUMBERS,
    "check_n_features_in": NUMBERS,
    "check_fit2d_predict1d": FLAT,
}
HOLDS_STEPS = "a pipeline fits its steps in place: so fail scikit-learn's own; asked of the classifier alone below"
BEHIND_A_STEP = {"check_estimators_overwrite_params": HOLDS_STEPS, "check_dont_overwrite_parameters": HOLDS_STEPS}
ALONE = FewtuneClassifier("tfidf", random_state=0)
PIPELINE = make_pipeline(WriteNumbers(), ALONE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [ALONE, PIPELINE],
    expected_failed_checks=lambda estimator: NO_TEXTS if isinstance(estimator, FewtuneClassifier) else BEHIND_A_STEP,
)
def test_scikit_learns_checks_pass_where_rows_are_texts(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_fit_leaves_parameters_alone_and_adds_fitted_attributes_only() -> None:
    settings = {"inverse_penalty": np.float64(2.0), "longest_phrase": np.int64(1)}
    classifier = FewtuneClassifier("tfidf", settings=settings)
    before = dict(vars(classifier))
    assert classifier.fit(TEXTS, LABELS) is classifier
    assert {name: vars(classifier)[name] for name in before} == before and classifier.settings is settings
    assert all(name.startswith("_") or name.endswith("_") for name in vars(classifier) if name not in before)
    assert classifier.predictor_.origin["settings"] == {
        "inverse_penalty": 2.0,
        "longest_phrase": 1,
        "class_weight": None,
    }
    assert clone(classifier).get_params() == before | {"settings": settings}


ONE_TEXT: Mapping[str, Any] = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "array": np.array(TEXTS),
    "object array": np.array(TEXTS, dtype=object),
    "column": np.array(TEXTS).reshape(-1, 1),
    "pandas series": pd.Series(TEXTS, name="message", index=range(5, 17)),
    "pandas frame": pd.DataFrame({"message": TEXTS}),
    "polars series": pl.Series("message", TEXTS),
    "polars frame": pl.DataFrame({"message": TEXTS}),
    "mappings": [{"message": text} for text in TEXTS],
    "lists of one": [[text] for text in TEXTS],
}


@pytest.mark.parametrize("kind", ONE_TEXT)
def test_rows_of_one_text_give_the_same_answers_in_every_form(kind: str) -> None:
    rows = ONE_TEXT[kind]
    expected = FewtuneClassifier("tfidf").fit(TEXTS, LABELS).predict_proba(TEXTS)
    classifier = FewtuneClassifier("tfidf").fit(rows, LABELS)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(classifier.predict_proba(rows), expected)
    named = kind.startswith(("pandas", "polars", "mapp"))
    assert classifier.predictor_.fields == (("message",) if named else ("text",))
    assert classifier.n_features_in_ == 1
    assert classifier.predict(rows).tolist() == LABELS and classifier.score(rows, LABELS) == 1.0


TWO_TEXTS: Mapping[str, Any] = {
    "pairs": PAIRS,
    "array": np.array(PAIRS),
    "pandas frame": pd.DataFrame(PAIRS, columns=["first", "second"]),
    "pandas frame without names": pd.DataFrame(PAIRS),
    "polars frame": pl.DataFrame(PAIRS, schema=["first", "second"], orient="row"),
    "mappings": [{"first": first, "second": second} for first, second in PAIRS],
}


@pytest.mark.parametrize("kind", TWO_TEXTS)
def test_rows_of_two_texts_give_the_same_answers_in_every_form(kind: str) -> None:
    rows = TWO_TEXTS[kind]
    expected = FewtuneClassifier("tfidf").fit(PAIRS, LABELS).predict_proba(PAIRS)
    classifier = FewtuneClassifier("tfidf").fit(rows, LABELS)
    np.testing.assert_array_equal(classifier.predict_proba(rows), expected)
    np.testing.assert_array_equal(classifier.predict_proba(PAIRS), expected)
    assert classifier.n_features_in_ == 2


def test_two_named_texts_are_found_by_name() -> None:
    frame = pd.DataFrame(PAIRS, columns=["first", "second"])
    classifier = FewtuneClassifier("tfidf").fit(frame, LABELS)
    assert classifier.feature_names_in_.tolist() == ["first", "second"]
    expected = classifier.predict_proba(frame)
    np.testing.assert_array_equal(classifier.predict_proba(frame[["second", "first"]]), expected)
    with pytest.raises(ValueError, match="columns first, other and X was fitted on first, second: name them alike"):
        classifier.predict(frame.rename(columns={"second": "other"}))
    with pytest.raises(ValueError, match="X has 1 features, but FewtuneClassifier is expecting 2 features as input"):
        classifier.predict(TEXTS)
    assert not {"feature_names_in_"} & set(vars(classifier.fit(PAIRS, LABELS)))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS, np.array(["complaint", "praise"])),
        (np.array(LABELS, dtype=object), np.array(["complaint", "praise"], dtype=object)),
        (pd.Series(LABELS, dtype="category"), np.array(["complaint", "praise"], dtype=object)),
        (pl.Series(LABELS), np.array(["complaint", "praise"])),
        ([10, 9] * 6, np.array([9, 10])),
        (["10", "9"] * 6, np.array(["10", "9"])),
        (np.array([3, -1] * 6, dtype=np.int8), np.array([-1, 3], dtype=np.int8)),
        (pd.Series([1, 0] * 6, dtype="Int64"), np.array([0, 1])),
        ([1.0, 0.0] * 6, np.array([0.0, 1.0])),
        ([True, False] * 6, np.array([False, True])),
        (pd.Series([True, False] * 6, dtype="boolean"), np.array([False, True])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_keep_their_type_and_sorted_order(labels: Any, classes: np.ndarray) -> None:
    classifier = FewtuneClassifier("tfidf").fit(TEXTS, labels)
    np.testing.assert_array_equal(classifier.classes_, classes)
    assert classifier.classes_.dtype.kind == classes.dtype.kind
    answers = classifier.predict(TEXTS)
    assert answers.dtype == classifier.classes_.dtype and answers.tolist() == list(labels)
    np.testing.assert_array_equal(classifier.classes_[classifier.predict_proba(TEXTS).argmax(axis=1)], answers)


def test_a_column_of_labels_is_read_with_scikit_learns_warning() -> None:
    with pytest.warns(DataConversionWarning):
        classifier = FewtuneClassifier("tfidf").fit(TEXTS, pd.DataFrame({"label": LABELS}))
    assert classifier.predict(TEXTS).tolist() == LABELS


def put(place: int, value: Any, rows: Sequence[Any] = TEXTS) -> list[Any]:
    """The rows with another one in that place."""
    return [value if number == place else row for number, row in enumerate(rows)]


REFUSED: Mapping[str, tuple[Any, Any]] = {
    "X has 11 rows and y 12 labels: give a label for each row": (TEXTS[1:], LABELS),
    r"X: row 3 \(counted from 1\) has no text": (put(2, None), LABELS),
    r"row 4 \(counted from 1\) has no text .*So it is with 1 more": (
        pd.Series(put(3, float("nan"), put(5, pd.NA))),
        LABELS,
    ),
    r"row 2 \(counted from 1\) in column 'second' is empty": (
        pd.DataFrame(put(1, ("a", " "), PAIRS), columns=["first", "second"]),
        LABELS,
    ),
    r"row 1 \(counted from 1\) holds 7, which is no text but int: give texts": (put(0, 7), LABELS),
    "holds half a character": (put(0, "half \ud83d"), LABELS),
    r"X has 3 columns \(a, b, c\); a row is one text or 2": (
        pd.DataFrame([["x"] * 3] * 12, columns=list("abc")),
        LABELS,
    ),
    "X has 3 columns; a row is one text or 2": (np.array([["x"] * 3] * 12), LABELS),
    "X: row 5 has 1 cell and row 1 has 2": (put(4, ("a",), PAIRS), LABELS),
    "X: row 2 holds b and row 1 a. Give every row the same texts": ([{"a": "x"}, {"b": "y"}], LABELS[:2]),
    "X: row 2 holds a str and row 1 a": ([{"a": "x"}, "y"], LABELS[:2]),
    "the column 'a:b' cannot stand in a template. Rename it": (pd.DataFrame({"a:b": TEXTS, "c": TEXTS}), LABELS),
    "Give each column a name of its own": (pd.DataFrame(PAIRS, columns=["a", "a"]), LABELS),
    "X is one text. Give rows of texts": ("good box", LABELS),
    "X is a mapping. Give rows of texts": ({"text": TEXTS}, LABELS),
    "X is missing": (None, LABELS),
    "X is a generator of 0 dimensions": ((text for text in TEXTS), LABELS),
    "X has no rows": ([], LABELS),
    "X has no columns": (pd.DataFrame(index=range(12)), LABELS),
    r"y holds one class \(praise\): give rows of at least two classes": (TEXTS, ["praise"] * 12),
    r"y contains NaN. Row 2 \(counted from 1\) has no label. Leave such rows out": (TEXTS, put(1, None, LABELS)),
    r"y contains NaN. Row 4 \(counted from 1\) has no label": (TEXTS, put(3, float("nan"), LABELS)),
    r"y mixes labels of several types \(float, str\)": (TEXTS, put(3, 1.5, LABELS)),
    "y contains NaN. Row 1 .* So it is with 1 more": (TEXTS, put(0, np.nan, put(5, np.nan, [0.0, 1.0] * 6))),
    "y: Input y contains infinity": (TEXTS, put(0, np.inf, [0.0, 1.0] * 6)),
    "Unknown label type: continuous": (TEXTS, np.linspace(0, 1, 12)),
    r"y mixes labels of several types \(int, str\)": (TEXTS, np.array(put(0, 1, LABELS), dtype=object)),
    "y should be a 1d array": (TEXTS, [LABELS, LABELS]),
    "the target y is None": (TEXTS, None),
    "differ in spaces alone": (TEXTS, put(0, "praise ", LABELS)),
    "labels represented as bytes": (TEXTS, [label.encode() for label in LABELS]),
    r"X: row 2 \(counted from 1\) has no text": (np.ma.array(TEXTS, mask=[n == 1 for n in range(12)]), LABELS),
    r"Row 3 \(counted from 1\) has no label": (TEXTS, np.ma.array([0, 1] * 6, mask=[n == 2 for n in range(12)])),
}


def test_one_column_is_read_whatever_its_name() -> None:
    frame = pd.json_normalize([{"review": {"text": text}} for text in TEXTS])
    assert list(frame) == ["review.text"]
    named = FewtuneClassifier("tfidf").fit(frame, LABELS)
    assert list(named.predict(TEXTS)) == list(FewtuneClassifier("tfidf").fit(TEXTS, LABELS).predict(frame))


@pytest.mark.parametrize("message", REFUSED)
def test_rows_and_labels_that_cannot_be_used_are_one_clear_value_error(message: str) -> None:
    rows, labels = REFUSED[message]
    with pytest.raises(ValueError, match=message) as caught:
        FewtuneClassifier("tfidf").fit(rows, labels)
    assert isinstance(caught.value, FewtuneError)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "tfdf"}, "unknown method 'tfdf'. Did you mean 'tfidf'"),
        ({"method": None}, "unknown method 'None'"),
        ({"method": "lora", "model": "smolm2-135m"}, "unknown model 'smolm2-135m'"),
        ({"settings": {"inverse_penalty": -1}}, "inverse_penalty` is -1"),
        ({"settings": {"rank": 1}}, "rank"),
        ({"settings": {"as": "x"}}, "only a study has names for its methods"),
        ({"settings": [1]}, "give a mapping of the method's settings"),
        ({"method": "auto", "settings": {"rank": 1}}, r"settings \(rank\) belong to one method and method is 'auto'"),
        ({"within": 3}, "within is 3; give a share from 0 to below 1"),
        ({"within": "x"}, "within is 'x'"),
        ({"budget": "ten"}, "budget is 'ten'; give a time above 0"),
        ({"budget": 600}, "budget is 600; give a time as text"),
        ({"random_state": "x"}, "random_state: 'x' cannot be used to seed"),
    ],
)
def test_parameters_that_cannot_be_used_are_told_by_fit(parameters: dict[str, Any], message: str) -> None:
    classifier = FewtuneClassifier(**{"method": "tfidf", **parameters})
    with pytest.raises(ArgumentError, match=message):
        classifier.fit(TEXTS, LABELS)


def test_what_is_not_fitted_is_told_as_scikit_learn_does() -> None:
    classifier = FewtuneClassifier("tfidf")
    for ask in (lambda: classifier.predict(TEXTS), lambda: classifier.predictor_, classifier.leaderboard):
        with pytest.raises(NotFittedError):
            ask()
    classifier.fit(TEXTS, LABELS)
    for name in ("leaderboard", "plot"):
        with pytest.raises(NoChoiceError, match="method='tfidf' was fitted alone, so that there is no"):
            getattr(classifier, name)()
    with pytest.raises(AttributeError, match="no decision"):
        _ = classifier.decision_


def test_it_works_in_pipelines_cross_validation_and_grid_search() -> None:
    rows = np.array([text.upper() for text in TEXTS])
    pipeline = make_pipeline(FunctionTransformer(np.strings.lower), FewtuneClassifier())
    pipeline.set_params(fewtuneclassifier__method="tfidf")
    scores = cross_val_score(pipeline, rows, LABELS, cv=3)
    assert scores.tolist() == [1.0, 1.0, 1.0]
    grid = [
        {"method": ["majority"]},
        {"method": ["tfidf"], "settings": [{"inverse_penalty": value} for value in np.logspace(-1, 1, 2)]},
    ]
    for given in (TEXTS, pd.Series(TEXTS), pl.DataFrame({"text": TEXTS}), PAIRS):
        search = GridSearchCV(FewtuneClassifier(), grid, cv=2, scoring="neg_log_loss", error_score="raise")
        search.fit(given, LABELS)
        assert search.best_params_ == {"method": "tfidf", "settings": {"inverse_penalty": 10.0}}
        assert search.predict(given).tolist() == LABELS and search.best_estimator_.method_ == "tfidf"


def fit_tiny(folder: Path, method: str, settings: Mapping[str, Any], **more: Any) -> FewtuneClassifier:
    """A classifier fitted on few rows with a tiny model."""
    pool = more.pop("pool", None)
    return FewtuneClassifier(method, str(folder), settings=settings, **more).fit(
        TEXTS[:6], LABELS[:6], X_unlabelled=pool
    )


def test_random_state_seeds_the_fit(model_folders: dict[str, Path]) -> None:
    llama, settings = model_folders["llama"], {"epochs": 1, "rank": 2}
    first = fit_tiny(llama, "lora", settings, random_state=3).predict_proba(TEXTS)
    np.testing.assert_array_equal(
        fit_tiny(llama, "lora", settings, random_state=np.int64(3)).predict_proba(TEXTS), first
    )
    plain = fewtune.fit(TEXTS[:6], LABELS[:6], "lora", str(llama), seed=3, **settings)
    np.testing.assert_array_equal(plain.predict_probabilities(TEXTS), first)
    drawn = [
        fit_tiny(llama, "lora", settings, random_state=np.random.RandomState(1)).predict_proba(TEXTS) for _ in "ab"
    ]
    np.testing.assert_array_equal(*drawn)
    assert not np.array_equal(drawn[0], first)


def test_unlabelled_rows_reach_the_methods_that_read_them(model_folders: dict[str, Path]) -> None:
    llama, batch = model_folders["llama"], {"contexts": 1, "demonstrations": 2, "calibration": "batch"}
    with pytest.raises(
        ValueError, match=r"in_context needs unlabelled rows with these settings, which FewtuneClassifier\.fit"
    ):
        fit_tiny(llama, "in_context", batch)
    classifier = fit_tiny(llama, "in_context", batch, random_state=0, pool=np.array(TEXTS[6:]))
    # Batch calibration takes out the mean log-probability over the pool, before each row's sum to one again.
    plain = fit_tiny(llama, "in_context", batch | {"calibration": "none"}, random_state=0)
    raw = np.log(plain.predict_proba(TEXTS)) - np.log(plain.predict_proba(TEXTS[6:])).mean(axis=0)
    expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=1e-4)
    pipeline = make_pipeline(FunctionTransformer(), clone(classifier))
    pipeline.fit(TEXTS[:6], LABELS[:6], fewtuneclassifier__X_unlabelled=TEXTS[6:])
    np.testing.assert_array_equal(pipeline.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    distilled = {"epochs": 1, "demonstrations": 2, "calibration": "contextual"}
    taught = fit_tiny(llama, "context_distillation", distilled, random_state=0, pool=TEXTS[6:])
    alone = fit_tiny(llama, "context_distillation", distilled, random_state=0)
    assert taught.predictor_.origin["pool_rows"] == 6 and alone.predictor_.origin["pool_rows"] == 0
    assert not np.array_equal(taught.predict_proba(TEXTS), alone.predict_proba(TEXTS))
    with pytest.raises(ValueError, match=r"X_unlabelled: row 2 \(counted from 1\) is empty"):
        fit_tiny(llama, "in_context", batch, pool=["fine", ""])
    with pytest.raises(ValueError, match="X_unlabelled has 2 features"):
        fit_tiny(llama, "in_context", batch, pool=PAIRS)


def test_a_teacher_of_another_model_is_read_and_of_another_vocabulary_where_label_words_are_compared(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    settings = {"epochs": 1, "demonstrations": 2, "calibration": "contextual"}
    llama, answers = model_folders["llama"], []
    for teacher in (None, str(model_folders["gpt2"])):
        taught = fit_tiny(
            llama, "context_distillation", settings | {"teacher": teacher}, random_state=0, pool=TEXTS[6:]
        )
        answers.append(taught.predict_proba(TEXTS))
    assert not np.array_equal(*answers)
    stranger = tiny_models.save("llama", tmp_path / "stranger", more=["quibbles and quarrels"] * 50)
    fit_tiny(llama, "context_distillation", settings | {"teacher": str(stranger)}, pool=TEXTS[6:])
    compared = settings | {"teacher": str(stranger), "kl_over": "vocabulary", "calibration": "none"}
    with pytest.raises(ValueError, match=r"different vocabularies. Use a teacher of the student's family"):
        fit_tiny(llama, "context_distillation", compared, pool=TEXTS[6:])


IN_A_FRESH_PROCESS = """
import pickle, sys
import numpy as np
classifier, texts, expected = pickle.loads(sys.stdin.buffer.read())
np.testing.assert_array_equal(classifier.predict_proba(texts), expected)
import fewtune.api, fewtune.cli.predict, fewtune.predictors.answers, fewtune.serving.app, fewtune.serving.server
assert "torch" not in sys.modules, "what reads no language model needs none"
"""


def test_a_pickle_answers_alike_in_a_fresh_process() -> None:
    classifier = FewtuneClassifier("tfidf").fit(TEXTS, LABELS)
    given = pickle.dumps((classifier, TEXTS, classifier.predict_proba(TEXTS)))
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


def test_a_pickle_holds_the_saved_files_and_no_network(model_folders: dict[str, Path], tmp_path: Path) -> None:
    classifier = fit_tiny(model_folders["llama"], "lora", {"epochs": 1, "rank": 2}, random_state=0)
    expected = classifier.predict_proba(TEXTS)
    content = pickle.dumps(classifier)
    named = {argument for code, argument, _ in pickletools.genops(content) if "UNICODE" in code.name}
    assert not {name for name in named if name.startswith(("torch", "transformers", "peft"))}
    assert "adapter/adapter_model.safetensors" in named
    twice = pickle.loads(pickle.dumps(pickle.loads(content)))  # the first has not read its files yet
    np.testing.assert_array_equal(twice.predict_proba(TEXTS), expected)
    assert twice.get_params() == classifier.get_params() and twice.classes_.tolist() == ["complaint", "praise"]
    twice.save(tmp_path / "model")
    np.testing.assert_array_equal(fewtune.load(tmp_path / "model").predict_probabilities(TEXTS), expected)
