"""What is tried of a file's rows, in which order, and what is left out for which reason; no model is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.errors import FewtuneError
from fewtune.fitting import candidates as module
from fewtune.fitting.candidates import Portfolio, count_bytes, list_candidates
from fewtune.fitting.prior import Prior
from fewtune.fitting.terms import ModelLimits
from fewtune.models import has_native_bfloat16
from fewtune.running.fit_rows import make_task
from fewtune.tasks.base import Task


@pytest.fixture
def rows() -> Task:
    return make_task([f"text {number}" for number in range(12)], ["x", "y"] * 6)


@pytest.fixture
def encoder(model_folders: dict[str, Path]) -> str:
    """A model that says no words."""
    return str(model_folders["sentence-encoder"])


@pytest.fixture
def decoder(model_folders: dict[str, Path]) -> str:
    return str(model_folders["llama"])


@pytest.fixture
def broken(tmp_path: Path) -> str:
    (tmp_path / "broken").mkdir()
    return str(tmp_path / "broken")


def list_names(portfolio: Portfolio) -> list[str]:
    return [each.name for each in portfolio.candidates]


def test_what_trains_no_network_comes_first_and_then_models_in_their_order(
    rows: Task, encoder: str, decoder: str
) -> None:
    named = list_candidates(rows, [decoder, encoder])
    assert list_names(named) == [
        "tfidf",
        f"embeddings ({encoder})",
        f"lora ({decoder})",
        f"pattern ({decoder})",
        f"contrastive ({encoder})",
        f"lora ({encoder})",
    ]
    assert not named.left_out
    settings = {each.name: each.settings for each in named.candidates}
    assert settings[f"lora ({encoder})"]["readout"] == "head" and "readout" not in settings[f"lora ({decoder})"]


def test_what_trains_comes_in_the_order_of_what_other_files_say(
    rows: Task, encoder: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = {f"contrastive ({encoder})": 0.1, f"pattern ({decoder})": 0.05, f"lora ({encoder})": -0.1}
    monkeypatch.setattr(module, "find_prior", lambda kind, rows, texts: Prior(better.get(kind, 0.0), 0.1))
    trained = [each.name for each in list_candidates(rows, [decoder, encoder]).candidates if each.trains]
    assert trained == [
        *(f"contrastive ({encoder})", f"pattern ({decoder})", f"lora ({decoder})", f"lora ({encoder})"),
    ]


def test_without_names_those_that_suit_are_tried_and_models_that_cannot_be_had_are_told(
    rows: Task, encoder: str, decoder: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MODELS", (encoder, broken))
    monkeypatch.setattr(module, "ENCODERS", (encoder,))
    monkeypatch.setattr(module, "OUTDONE", frozenset({("lora", encoder)}))
    suiting = list_candidates(rows)
    assert list_names(suiting) == ["tfidf", f"embeddings ({encoder})", f"contrastive ({encoder})"]
    [left_out] = suiting.left_out
    assert left_out.name == broken and "a model folder holds config.json" in left_out.reason
    fast = list_candidates(rows, only_frozen=True)
    assert list_names(fast) == ["tfidf", f"embeddings ({encoder})"] and not fast.left_out
    monkeypatch.setattr(module, "MODELS", (broken,))
    assert list_names(list_candidates(rows)) == ["tfidf"], "no model at all is no reason for no model of the rows"


def test_where_uneven_labels_count_alike_embeddings_are_tried_with_balanced_weights_too(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_of(labels: list[str], methods: tuple[str, ...] = ()) -> list[str]:
        rows = make_task([f"text {number}" for number in range(len(labels))], labels)
        return list_names(list_candidates(rows, [encoder], methods, only_frozen=not methods))

    plain = ["tfidf", f"embeddings ({encoder})"]
    assert list_of([*"xxxxxxyyyyzz"]) == [*plain, f"embeddings, balanced ({encoder})"]
    assert list_of([*"xxxxyyyyzzzz"]) == plain, "weights that are all alike"
    assert list_of([*"xxxxxxxxyyyy"]) == plain, "judged by accuracy, in which common labels count more"
    assert list_of([*"xxxxxxyyyyzz"], ("embeddings",)) == plain[1:], "what is named is tried"
    skewed = make_task([f"text {number}" for number in range(12)], [*"xxxxxxyyyyzz"])
    balanced = list_candidates(skewed, [encoder]).candidates[2]
    assert balanced.settings == {"class_weight": "balanced"} and balanced.method == "embeddings"
    trained = [each for each in list_candidates(skewed, [encoder], ["contrastive"]).candidates if each.trains]
    assert [each.settings.get("class_weight") for each in trained] == [None], "what is named is tried"
    monkeypatch.setattr(module, "MODELS", (encoder,))
    trained = [each for each in list_candidates(skewed).candidates if each.method == "contrastive"]
    assert [each.name for each in trained] == [f"contrastive, balanced ({encoder})"], "one fit's time is spent once"


def test_a_named_model_that_cannot_be_used_is_left_out_and_refused_where_it_is_the_only_one(
    rows: Task, encoder: str, broken: str
) -> None:
    portfolio = list_candidates(rows, [broken, encoder], ["embeddings"])
    assert list_names(portfolio) == [f"embeddings ({encoder})"] and [e.name for e in portfolio.left_out] == [broken]
    with pytest.raises(FewtuneError, match=r"a model folder holds config\.json"):
        list_candidates(rows, [broken])
    assert list_names(list_candidates(rows, [broken], ["tfidf"])) == ["tfidf"], "which reads no model"


def test_a_method_that_a_model_cannot_do_is_left_out_with_its_reason(rows: Task, encoder: str, decoder: str) -> None:
    portfolio = list_candidates(rows, [encoder, decoder], ["pattern", "tfidf"])
    assert list_names(portfolio) == ["tfidf", f"pattern ({decoder})"]
    assert [each.name for each in portfolio.left_out] == [f"pattern ({encoder})"] and portfolio.left_out[0].reason
    with pytest.raises(FewtuneError, match=f"^{portfolio.left_out[0].reason}$".replace("(", r"\(").replace(")", r"\)")):
        list_candidates(rows, [encoder], ["pattern"])


def test_what_is_named_twice_is_tried_once(rows: Task, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(encoder)
    monkeypatch.chdir(folder.parent)
    twice = list_candidates(rows, [encoder, f"./{folder.name}"], ["embeddings", "tfidf", "embeddings", "tfidf"])
    assert list_names(twice) == ["tfidf", f"embeddings ({folder.resolve()})"]


def test_fast_tells_that_a_named_model_would_have_to_train(rows: Task, decoder: str) -> None:
    portfolio = list_candidates(rows, [decoder], only_frozen=True)
    assert list_names(portfolio) == ["tfidf"]
    assert [each.name for each in portfolio.left_out] == [f"lora ({decoder})", f"pattern ({decoder})"]
    assert all("frozen features alone were asked for" in each.reason for each in portfolio.left_out)


def test_models_whose_weights_take_more_than_they_may_are_left_out_with_their_size(
    rows: Task, encoder: str, decoder: str
) -> None:
    sizes = {name: count_bytes(name) for name in (encoder, decoder)}
    in_float32 = sum(path.stat().st_size for path in Path(encoder).glob("*.safetensors"))
    assert sizes[encoder] == pytest.approx(in_float32 * (0.5 if has_native_bfloat16() else 1.0), rel=0.05)
    least, most = sorted(sizes, key=lambda name: sizes[name])
    found = list_candidates(rows, [encoder, decoder], limits=ModelLimits(model_bytes=sizes[least]))
    assert {each.model for each in found.candidates} == {None, least}
    [left_out] = found.left_out
    assert left_out.name == most and left_out.reason.startswith("its weights take ")
    with pytest.raises(FewtuneError, match=r"its weights take .*, above 1 B"):
        list_candidates(rows, [encoder, decoder], limits=ModelLimits(model_bytes=1))
