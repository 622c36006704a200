"""Small saved models and servers of them, made once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

import fewtune
from fewtune.predictors.predictor import Predictor
from serving_models import KINDS, TEXTS, SlowPredictor, listen


@pytest.fixture(scope="session")
def one_column() -> Predictor:
    return fewtune.fit(TEXTS, KINDS, "tfidf")


@pytest.fixture(scope="session")
def two_columns() -> Predictor:
    rows = [{"premise": text, "hypothesis": " ".join(reversed(text.split()))} for text in TEXTS]
    return fewtune.fit(rows, KINDS, "tfidf")


@pytest.fixture
def slow(one_column: Predictor) -> Iterator[SlowPredictor]:
    made = SlowPredictor(one_column, [], threading.Event())
    yield made
    made.go_on.set()


@pytest.fixture(scope="session")
def url(one_column: Predictor) -> Iterator[str]:
    with listen(one_column) as address:
        yield address


@pytest.fixture(scope="session")
def url_of_pairs(two_columns: Predictor) -> Iterator[str]:
    with listen(two_columns) as address:
        yield address


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as made:
        yield made
