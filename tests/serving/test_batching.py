"""Rows of many requests share calls of the model, each is answered as if alone, and none waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import fewtune
from fewtune.predictors.predictor import Predictor
from fewtune.serving.batching import Batch, Batcher, QueueFullError, StoppedError
from fewtune.serving.limits import RequestLimits
from serving_models import KINDS, TEXTS, SlowPredictor
from waiting import wait_for


@contextmanager
def batching(predictor: object, limits: RequestLimits, heard: list[Batch] | None = None) -> Iterator[Batcher]:
    batcher = Batcher(predictor, limits, ([] if heard is None else heard).append)  # type: ignore[arg-type]
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.stop()


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def test_rows_that_come_while_the_model_is_busy_share_its_next_call(slow: SlowPredictor) -> None:
    with batching(slow, RequestLimits(window_seconds=0.0, batch_rows=64)) as batcher:
        first = batcher.submit(rows("wet"))
        wait_for(lambda: slow.calls == [1])
        others = [batcher.submit(rows(f"early {number}", "crushed")) for number in range(20)]
        slow.go_on.set()
        answers = [future.result(30).probabilities for future in others]
        assert slow.calls == [1, 40]
        np.testing.assert_array_equal(first.result(30).probabilities, slow.predictor.predict_probabilities(["wet"]))
        for number, found in enumerate(answers):
            np.testing.assert_array_equal(found, slow.predictor.predict_probabilities([f"early {number}", "crushed"]))


def test_rows_within_the_window_share_a_call(slow: SlowPredictor) -> None:
    slow.go_on.set()
    heard: list[Batch] = []
    with batching(slow, RequestLimits(window_seconds=5.0, batch_rows=3), heard) as batcher:
        futures = [batcher.submit(rows(text)) for text in TEXTS[:3]]  # full, so that the window need not be over
        for future in futures:
            future.result(30)
        assert slow.calls == [3]
        wait_for(lambda: [batch.rows for batch in heard] == [3])


def test_a_request_longer_than_a_batch_is_answered_in_its_order(slow: SlowPredictor) -> None:
    slow.go_on.set()
    texts = [f"{text} {number}" for number in range(5) for text in TEXTS]
    with batching(slow, RequestLimits(window_seconds=0.0, batch_rows=8)) as batcher:
        found = batcher.submit(rows(*texts), counted=True).result(30)
    assert slow.calls == [8, 8, 4]
    np.testing.assert_array_equal(found.probabilities, slow.predictor.predict_probabilities(texts))
    assert found.tokens == sum(len(text.split()) for text in texts)


def test_rows_that_fail_fail_nobody_else(slow: SlowPredictor) -> None:
    with batching(slow, RequestLimits(window_seconds=0.0, batch_rows=8)) as batcher:
        batcher.submit(rows("busy"))
        wait_for(lambda: slow.calls == [1])
        good, bad = batcher.submit(rows("whole")), batcher.submit(rows("fail", *TEXTS * 4))
        after = batcher.submit(rows("wet"))
        slow.go_on.set()
        with pytest.raises(ValueError, match="made to fail"):
            bad.result(30)
        assert good.result(30).probabilities.shape == after.result(30).probabilities.shape == (1, 2)
        assert batcher.is_running() and batcher.count_waiting() == 0


def test_what_is_no_exception_fails_a_request_as_one_does(slow: SlowPredictor) -> None:
    """A tokenizer's panic: what answers requests catches exceptions alone."""

    class Panic(BaseException):
        pass

    heard: list[Batch] = []
    slow.go_on.set()
    with (
        batching(slow, RequestLimits(window_seconds=0.0, batch_rows=8), heard) as batcher,
        pytest.MonkeyPatch.context() as p,
    ):

        def panic(self: object, rows: object) -> None:
            raise Panic("out of range")

        p.setattr(SlowPredictor, "count_tokens", panic)
        with pytest.raises(RuntimeError, match="Panic: out of range"):
            batcher.submit(rows("wet"), counted=True).result(30)
        assert len(batcher.submit(rows("wet")).result(30).probabilities) == 1
    assert [batch.rows for batch in heard] == [1], "a call that gave no answers is none that is counted"


def test_more_rows_than_may_wait_are_refused_and_told_when_to_come_again(slow: SlowPredictor) -> None:
    with batching(slow, RequestLimits(window_seconds=0.0, batch_rows=2, waiting_rows=4)) as batcher:
        batcher.submit(rows("busy"))
        wait_for(lambda: slow.calls == [1])
        kept = batcher.submit(rows(*TEXTS))
        with pytest.raises(QueueFullError, match="4 rows wait for the model already") as full:
            batcher.submit(rows("one more"))
        assert full.value.seconds >= 1
        slow.go_on.set()
        assert len(kept.result(30).probabilities) == 4
        assert len(batcher.submit(rows(*TEXTS * 2)).result(30).probabilities) == 8, "an idle server takes any request"


def test_whoever_has_gone_is_not_scored(slow: SlowPredictor) -> None:
    with batching(slow, RequestLimits(window_seconds=0.0)) as batcher:
        batcher.submit(rows("busy"))
        wait_for(lambda: slow.calls == [1])
        gone, stays = batcher.submit(rows("gone", "gone")), batcher.submit(rows("wet"))
        assert gone.cancel()
        slow.go_on.set()
        stays.result(30)
        assert slow.calls == [1, 1]
        assert batcher.count_waiting() == 0


def test_a_stop_waits_for_the_batch_under_way_and_gives_up_the_rest(slow: SlowPredictor) -> None:
    with batching(slow, RequestLimits(window_seconds=0.0)) as batcher:
        under_way = batcher.submit(rows("busy"))
        wait_for(lambda: slow.calls == [1])
        waits = batcher.submit(rows("waits"))
        threading.Timer(0.05, slow.go_on.set).start()
    assert len(under_way.result(0).probabilities) == 1
    assert waits.cancelled() and not batcher.is_running()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_rows_under_way_are_given_up_where_the_thread_ends(slow: SlowPredictor) -> None:
    slow.go_on.set()

    def break_down(batch: Batch) -> None:
        raise MemoryError

    batcher = Batcher(slow, RequestLimits(window_seconds=0.0, batch_rows=1), break_down)  # type: ignore[arg-type]
    asked = batcher.submit(rows("two", "rows"))
    batcher.start()
    batcher._thread.join(30)
    assert isinstance(asked.exception(30), StoppedError) and not batcher.is_running()


def test_a_language_model_answers_batches_as_single_rows(model_folders: dict[str, Path], tmp_path: Path) -> None:
    fewtune.fit(TEXTS, KINDS, "in_context", str(model_folders["llama"]), demonstrations=2).save(tmp_path / "saved")
    predictor: Predictor = fewtune.load(tmp_path / "saved")
    texts = [f"{text} {number}" for number in range(6) for text in TEXTS]
    with batching(predictor, RequestLimits(window_seconds=0.02)) as batcher:
        futures = [batcher.submit(rows(text), counted=True) for text in texts]
        found = np.concatenate([future.result(60).probabilities for future in futures])
    alone = np.concatenate([predictor.predict_probabilities([text]) for text in texts])
    np.testing.assert_allclose(found, alone, atol=1e-2)  # bfloat16, where the machine has it
    np.testing.assert_array_equal(found.argmax(1), alone.argmax(1))
    counts = predictor.count_tokens(texts)
    assert [future.result().tokens for future in futures] == counts
    assert predictor.count_tokens(["a b c d"])[0] > predictor.count_tokens(["a"])[0] > 0
