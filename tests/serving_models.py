"""Small saved models, and servers of them in this process: a real socket, the model's thread, uvicorn in a thread."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewtune.predictors.predictor import Predictor
from fewtune.serving.app import Served, create_app
from fewtune.serving.connections import Server
from fewtune.serving.limits import RequestLimits
from fewtune.serving.server import open_socket

TEXTS = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]
DEFAULTS = RequestLimits()
KINDS = ["praise", "praise", "complaint", "complaint"]


@dataclass(frozen=True)
class SlowPredictor:
    """A model that notes how many rows each call had, waits to be let go on, and fails on the text `fail`."""

    predictor: Predictor
    calls: list[int]
    go_on: threading.Event

    @property
    def labels(self) -> tuple[str, ...]:
        return self.predictor.labels

    @property
    def fields(self) -> tuple[str, ...]:
        return self.predictor.fields

    @property
    def abstention(self) -> None:
        return None

    def predict_probabilities(self, rows: Sequence[Mapping[str, str]]) -> np.ndarray:
        self.calls.append(len(rows))
        assert self.go_on.wait(30)
        if any("fail" in row.values() for row in rows):
            raise ValueError("made to fail")
        return self.predictor.predict_probabilities(rows)

    def count_tokens(self, rows: Sequence[Mapping[str, str]]) -> list[int]:
        return [len(row["text"].split()) for row in rows]


@contextmanager
def listen(
    predictor: Any, limits: RequestLimits = DEFAULTS, token: str | None = None, names: Collection[str] = ()
) -> Iterator[str]:
    """A server of a model, named `tickets`; gives its address."""
    with serve(predictor, limits, token, names) as (_, address):
        yield address


@contextmanager
def serve(
    predictor: Any, limits: RequestLimits = DEFAULTS, token: str | None = None, names: Collection[str] = ()
) -> Iterator[tuple[Server, str]]:
    """A server of a model, named `tickets`, once it answers, and its address."""
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    answers = threading.Event()
    server = Server(create_app(Served("tickets", predictor), limits, token, names), limits, answers.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert answers.wait(30)
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
