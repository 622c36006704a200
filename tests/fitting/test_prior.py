"""Priors of candidates: which have some, and how numbers of rows between them are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fewtune.fitting import prior as module
from fewtune.fitting.candidates import ENCODERS, OUTDONE, Candidate, list_candidates
from fewtune.fitting.prior import FLAT, TABLE, Prior, find_prior, pool_priors
from fewtune.running.fit_rows import make_task


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of which much is known and one of which little is."""
    few = {kind: {"mean": mean, "spread": 0.1} for kind, mean in {"a": 0.1, "b": -0.2, "c": 0.3}.items()}
    many = {kind: {"mean": mean, "spread": 0.05} for kind, mean in {"a": 0.3, "b": -0.1}.items()}
    texts = {"one text": {"32": {"base_error": 0.2, "kinds": few}, "128": {"base_error": 0.1, "kinds": many}}}
    (tmp_path / "prior.json").write_text(json.dumps({"texts": texts}))
    monkeypatch.setattr(module, "TABLE", tmp_path / "prior.json")


@pytest.mark.usefixtures("table")
def test_between_numbers_of_rows_figures_go_by_the_logarithm_and_beyond_them_the_nearest_hold() -> None:
    assert find_prior("a", 32, 1) == find_prior("a", 10, 1) == Prior(0.1, 0.1, 0.2)
    assert find_prior("a", 128, 1) == find_prior("a", 5000, 1) == Prior(0.3, 0.05, 0.1)
    half = find_prior("a", 64, 1)
    assert (half.mean, half.spread, half.error) == pytest.approx((0.2, 0.075, 0.15))
    assert find_prior("c", 128, 1) == Prior(0.3, 0.1, 0.2), "known of few rows alone"


@pytest.mark.usefixtures("table")
def test_of_what_has_no_records_nothing_is_expected() -> None:
    assert find_prior("d", 32, 1) == find_prior("a", 32, 2) == find_prior("a", 32, 3) == FLAT
    assert math.isinf(FLAT.spread)


def test_where_the_base_gets_less_wrong_there_is_less_to_gain_and_as_much_to_lose() -> None:
    better, worse = Prior(0.1, 0.08, 0.2), Prior(-0.1, 0.08, 0.2)
    quarter = better.scale_gain(0.05)
    assert (quarter.mean, quarter.spread) == pytest.approx((0.025, 0.02))
    assert better.scale_gain(0.2) == better.scale_gain(0.5) == better, "more to gain, no more expected"
    assert worse.scale_gain(0.05) == worse and FLAT.scale_gain(0.05) == FLAT
    assert Prior(0.1, 0.08).scale_gain(0.05) == Prior(0.1, 0.08), "how much there was to gain is not known"


def test_of_a_stack_as_much_is_expected_as_of_its_best_member() -> None:
    assert pool_priors([Prior(0.1, 0.1), Prior(0.2, 0.1)]) == Prior(0.2, 0.1)
    assert pool_priors([Prior(0.1, 0.1), FLAT]) == FLAT, "of which it may have anything"


def test_balanced_weights_make_no_kind_of_their_own_and_texts_apart_do() -> None:
    plain = Candidate("embeddings", "m")
    assert plain.balance().kind == plain.kind == "embeddings (m)"
    assert plain.read_apart().balance().kind == plain.read_apart().kind == "embeddings, texts apart (m)"


@pytest.mark.parametrize("columns", [1, 2])
def test_the_table_has_records_of_all_that_is_tried_where_nothing_is_named(columns: int) -> None:
    rows = [{f"text{place}": f"text {number}" for place in range(columns)} for number in range(12)]
    frozen = list_candidates(make_task(rows, ["x", "y"] * 6), only_frozen=True).candidates
    trained = [Candidate(method, "mpnet-base") for method in ("contrastive", "lora")]
    trained += [Candidate(method, "smollm2-135m") for method in ("lora", "pattern")]
    assert {each.model for each in frozen} == {None, *ENCODERS} and ("lora", "mpnet-base") not in OUTDONE
    for candidate in (*frozen, *trained):
        for count in (20, 64, 1000):
            found = find_prior(candidate.kind, count, columns)
            assert abs(found.mean) < 0.5 and 0.01 < found.spread < 0.3, candidate.name
            assert found.error is not None and 0.05 < found.error < 0.8
    assert json.loads(TABLE.read_text())["command"].startswith("python -m benchmarks.candidates")
