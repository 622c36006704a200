"""What requests are answered with: the shapes, equality with `predict`, every refusal, the token, the counts."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from fewtune.predictors.manifest import AbstentionPart
from fewtune.predictors.predictor import Predictor
from fewtune.serving.batching import Batcher
from fewtune.serving.limits import RequestLimits
from fewtune.serving.page import write_form_page
from serving_models import TEXTS, SlowPredictor, listen
from waiting import wait_for


def test_a_columns_name_goes_back_from_the_page_as_it_is() -> None:
    page = write_form_page("model", ["a", "b"], ['\u200fmessage "<b>'], 0.0)
    assert 'name="\u200fmessage &#34;&lt;b&gt;"' in page and "<b>" not in page.split("<textarea")[1]
    assert "\u200f" not in page.split("<label")[1].split("</label>")[0], "what is shown has no direction of its own"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_rows_under_way_when_the_model_stops_are_told_so(
    client: httpx.Client, slow: SlowPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise SystemExit

    with listen(slow, RequestLimits(window_seconds=0.0, batch_rows=1)) as address:
        monkeypatch.setattr(Batcher, "_keep", stop)  # whatever ends the thread
        slow.go_on.set()
        found = client.post(f"{address}/predict", json={"inputs": ["two", "rows"]})
        assert found.status_code == 503 and "the model has stopped" in found.text


def test_one_text_is_answered_by_every_label_likeliest_first(
    client: httpx.Client, url: str, one_column: Predictor
) -> None:
    (expected,) = one_column.predict_probabilities(["early and whole"])
    by_label = sorted(zip(expected.tolist(), one_column.labels, strict=True), reverse=True)
    found = client.post(f"{url}/predict", json={"inputs": "early and whole", "truncate": True, "raw_scores": False})
    assert found.json() == [{"score": score, "label": label} for score, label in by_label]
    assert found.json()[0]["label"] == one_column.predict(["early and whole"])[0] == "praise"
    assert client.post(f"{url}/predict", json={"inputs": {"text": "early and whole"}}).json() == found.json()


@pytest.mark.parametrize("form", [lambda text: text, lambda text: [text], lambda text: {"text": text}])
def test_a_list_is_answered_by_a_list_a_row(client: httpx.Client, url: str, one_column: Predictor, form: Any) -> None:
    found = client.post(f"{url}/predict", json={"inputs": [form(text) for text in TEXTS]}).json()
    assert [row[0]["label"] for row in found] == one_column.predict(TEXTS)
    assert client.post(f"{url}/predict", json={"inputs": [form("wet")]}).json()[0][0]["label"] == "complaint"


def test_models_of_two_columns_read_pairs_and_objects(
    client: httpx.Client, url_of_pairs: str, two_columns: Predictor
) -> None:
    row = {"premise": "wet", "hypothesis": "whole"}
    (expected,) = two_columns.predict_probabilities([row])

    def ask(inputs: Any) -> Any:
        return client.post(f"{url_of_pairs}/predict", json={"inputs": inputs}).json()

    single = ask(["wet", "whole"])
    assert {each["label"]: each["score"] for each in single} == dict(zip(two_columns.labels, expected, strict=True))
    assert ask(row) == single
    swapped = ask(["whole", "wet"])
    assert ask([["wet", "whole"], ["whole", "wet"]]) == [single, swapped]
    assert ask([row]) == [single]
    classified = client.post(f"{url_of_pairs}/classify", json={"input": [row, ["whole", "wet"]]}).json()
    assert classified["data"][0]["probs"] == expected.tolist() and len(classified["data"]) == 2


def test_classify_answers_in_the_models_order_of_labels(client: httpx.Client, url: str, one_column: Predictor) -> None:
    expected = one_column.predict_probabilities(TEXTS)
    found = client.post(f"{url}/classify", json={"model": "tickets", "input": TEXTS, "user": "me"}).json()
    assert found["object"] == "list" and found["model"] == "tickets" and found["id"].startswith("classify-")
    assert found["data"] == [
        {"index": i, "label": one_column.labels[row.argmax()], "probs": row.tolist(), "num_classes": 2}
        for i, row in enumerate(expected)
    ]
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] == 0, "no language model read anything"
    assert len(client.post(f"{url}/classify", json={"input": "wet"}).json()["data"]) == 1


def test_a_model_that_abstains_says_so(client: httpx.Client, one_column: Predictor) -> None:
    sure = one_column.predict_probabilities(TEXTS).max(axis=1)
    part = AbstentionPart(
        risk=0.1, confidence=0.95, threshold=float(np.median(sure)), coverage=0.5, coverage_low=0.4, coverage_high=0.6,
        rows=100, errors=3,
    )  # fmt: skip
    with listen(replace(one_column, abstention=part)) as url:
        found = client.post(f"{url}/classify", json={"input": TEXTS}).json()["data"]
        assert [row["abstained"] for row in found] == [bool(each < np.median(sure)) for each in sure]
        assert 'data-least="0.' in client.get(url).text


def test_tokens_that_were_read_are_those_of_the_request_alone(client: httpx.Client, slow: SlowPredictor) -> None:
    slow.go_on.set()
    with listen(slow) as url:
        found = client.post(f"{url}/classify", json={"input": ["one two", "three"]}).json()
    assert found["usage"]["prompt_tokens"] == 3


REFUSALS: list[tuple[str, bytes | dict[str, Any] | list[Any] | str | None, int, str]] = [
    ("predict", b'{"inputs": "\xff"}', 400, "the body is not UTF-8 (byte 12)"),
    ("predict", '{"inputs": "a"}'.encode("utf-16"), 400, "the body is not UTF-8"),
    ("predict", b'{"inputs": ', 400, "the body is not JSON (Expecting value, line 1, column 12)"),
    ("predict", b"", 400, "the body is not JSON"),
    ("predict", b"[" * 100_000, 400, "nested too deep"),
    ("predict", b'{"inputs": ' + b"9" * 5000 + b"}", 400, "a number is too long"),
    ("predict", b'{"inputs": "a", "inputs": "b"}', 422, "the key 'inputs' stands twice in one object"),
    ("predict", b'{"inputs": [{"text": "a"}, {"text": "b", "text": "c"}]}', 422, "the key 'text' stands twice"),
    ("predict", b'{"inputs": {"text": "a", "t\\u0065xt": "b"}}', 422, "the key 'text' stands twice in one object"),
    ("classify", b'{"input": "a", "user": {"id": 1, "id": 1}}', 422, "the key 'id' stands twice in one object"),
    ("predict", [], 422, "the body is a list: give a JSON object."),
    ("predict", None, 422, "the body is null: give a JSON object."),
    ("predict", {}, 422, "the body has no 'inputs' (it is empty). inputs is one row, or a list of rows. Give a text"),
    ("predict", {"input": "a"}, 422, "the body has no 'inputs' (it has input)"),
    ("predict", {"inputs": 7}, 422, "inputs is a number."),
    ("predict", {"inputs": None}, 422, "inputs is null."),
    ("predict", {"inputs": []}, 422, "inputs is an empty list."),
    ("predict", {"inputs": "  \n"}, 422, "inputs: column 'text' is empty: give a text."),
    ("predict", {"inputs": ["a", ""]}, 422, "inputs: row 2: column 'text' is empty"),
    ("predict", {"inputs": ["a", 7]}, 422, "inputs: row 2 is a number."),
    ("predict", {"inputs": [["a", "b"]]}, 422, "inputs: row 1 is a list of 2; this model reads 1."),
    ("predict", {"inputs": {"txet": "a"}}, 422, "unknown column 'txet'. Did you mean 'text'? Allowed: text."),
    ("predict", {"inputs": {}}, 422, "inputs has no column 'text'; it has none."),
    ("predict", {"inputs": [{"text": True}]}, 422, "inputs: row 1: column 'text' is true or false: give a text."),
    ("predict", b'{"inputs": "\\ud800"}', 422, "half of a surrogate pair"),
    ("predict", {"inputs": "a" * 20_001}, 422, "has 20001 characters; a text may have 20000: cut it."),
    ("predict", {"inputs": ["a"] * 257}, 422, "inputs has 257 rows; a request may have 256: split it."),
    ("predict", {"inputs": "a", "raw_scores": True}, 422, "this server answers with probabilities alone"),
    ("predict", {"inputs": "a", "raw_scores": "no"}, 422, "raw_scores is a text: give true or false"),
    ("classify", {"input": [1, 2]}, 422, "input: row 1 is a number."),
    ("classify", {"input": "a", "use_activation": False}, 422, "use_activation is false"),
    ("classify", {"input": "a", "model": "other"}, 404, "model 'other' is not served here: give 'tickets'"),
    ("classify", {"input": "a", "model": 7}, 422, "model is a number: give 'tickets'"),
]


@pytest.mark.parametrize(("path", "body", "status", "told"), REFUSALS)
def test_what_cannot_be_used_is_one_clear_message(
    client: httpx.Client, url: str, path: str, body: Any, status: int, told: str
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = client.post(f"{url}/{path}", content=sent, headers={"Content-Type": "application/json"})
    assert found.status_code == status
    assert told in found.json()["error"] and set(found.json()) == {"error", "error_type"}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ("wet", 'inputs is one text, and this model reads premise, hypothesis. Give {"premise": "…", '),
        (["a", "b", "c"], "inputs is a list of 3; this model reads 2."),
        ([["a", "b"], ["a"]], "inputs: row 2 is a list of 1; this model reads 2."),
        ([["a", None]], "inputs: row 1: column 'hypothesis' is null: give a text."),
        ({"premise": "a"}, "inputs has no column 'hypothesis'; it has premise."),
        ([{"premise": "a", "hypothesis": "b", "label": "c"}], "inputs: row 1: unknown column 'label'."),
    ],
)
def test_wrong_columns_are_named(client: httpx.Client, url_of_pairs: str, inputs: Any, told: str) -> None:
    found = client.post(f"{url_of_pairs}/predict", json={"inputs": inputs})
    assert found.status_code == 422 and told in found.json()["error"]


def test_other_types_methods_and_paths_are_refused(client: httpx.Client, url: str) -> None:
    form = client.post(f"{url}/predict", data={"inputs": "a"})
    assert form.status_code == 415 and "Content-Type: application/json" in form.json()["error"]
    assert client.get(f"{url}/predict").status_code == 405
    nowhere = client.get(f"{url}/nowhere")
    assert nowhere.status_code == 404 and nowhere.json()["error"].startswith("GET /nowhere: Not Found")


def test_a_long_body_is_refused_whether_or_not_it_says_its_length(client: httpx.Client, one_column: Predictor) -> None:
    with listen(one_column, RequestLimits(body_bytes=1000)) as url:
        headers = {"Content-Type": "application/json"}
        inside = json.dumps({"inputs": "a" * 900}).encode()
        assert client.post(f"{url}/predict", content=inside, headers=headers).status_code == 200
        long = b'{"inputs": "' + b"a" * 9_000 + b'"}'
        for content in (long, iter([long[:400], long[400:]])):
            found = client.post(f"{url}/predict", content=content, headers=headers)
            assert found.status_code == 413 and "more than 1000 bytes" in found.json()["error"]
        assert client.get(f"{url}/health").status_code == 200


def test_a_client_that_goes_in_the_middle_of_its_body_harms_nobody(client: httpx.Client, one_column: Predictor) -> None:
    with listen(one_column) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as gone:
            gone.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            gone.sendall(b'Content-Length: 100\r\n\r\n{"inp')
        counted = 'fewtune_requests_total{path="/predict",status="400"} 1.0'
        wait_for(lambda: counted in client.get(f"{url}/metrics").text)
        assert client.post(f"{url}/predict", json={"inputs": "wet"}).status_code == 200


def test_a_flood_is_told_to_come_later_and_answered_afterwards(client: httpx.Client, slow: SlowPredictor) -> None:
    with listen(slow, RequestLimits(window_seconds=0.0, waiting_rows=8)) as url, ThreadPoolExecutor(40) as pool:
        first = pool.submit(httpx.post, f"{url}/predict", json={"inputs": "wet"}, timeout=30)
        wait_for(lambda: slow.calls == [1])
        flood = [pool.submit(httpx.post, f"{url}/predict", json={"inputs": "wet"}, timeout=30) for _ in range(30)]
        wait_for(lambda: sum(each.done() for each in flood) == 22)
        refused = [each.result() for each in flood if each.done()]
        assert {each.status_code for each in refused} == {429}
        assert all(int(each.headers["Retry-After"]) >= 1 for each in refused)
        assert "8 rows wait for the model already" in refused[0].json()["error"]
        assert client.get(f"{url}/health").status_code == 200, "it answers while the model is busy"
        assert "fewtune_queue_rows 8.0" in client.get(f"{url}/metrics").text
        slow.go_on.set()
        assert [each.result().status_code for each in (first, *flood) if each.result().status_code != 429] == [200] * 9
        assert slow.calls == [1, 8]
        assert client.post(f"{url}/predict", json={"inputs": "wet"}).status_code == 200


def test_two_hundred_requests_at_once_are_answered_as_predict_answers(slow: SlowPredictor) -> None:
    texts = [f"{TEXTS[number % 4]} {number}" for number in range(200)]
    expected = slow.predictor.predict_probabilities(texts)

    async def ask_all(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            asked = [asyncio.create_task(client.post(f"{url}/classify", json={"input": text})) for text in texts]
            await asyncio.to_thread(wait_for, lambda: bool(slow.calls))
            slow.go_on.set()
            return await asyncio.gather(*asked)

    with listen(slow) as url:
        found = asyncio.run(ask_all(url))
    np.testing.assert_array_equal([each.json()["data"][0]["probs"] for each in found], expected)
    assert sum(slow.calls) == 200 and len(slow.calls) < 40, "they share calls of the model"


def test_the_token_opens_all_and_health_needs_none(client: httpx.Client, one_column: Predictor) -> None:
    with listen(one_column, token="s3cret-token") as url:
        assert client.get(f"{url}/health").json() == {"status": "ok"}
        for path in ("", "docs", "metrics", "openapi.json", "nowhere"):
            found = client.get(f"{url}/{path}")
            assert found.status_code == 401 and "WWW-Authenticate" in found.headers, path
        body = {"inputs": "wet"}

        def status(authorization: str | bytes) -> int:
            return client.post(f"{url}/predict", json=body, headers={"Authorization": authorization}).status_code

        assert client.post(f"{url}/predict", json=body).status_code == 401
        for wrong in (
            "Bearer s3cret-toke",
            "Bearer",
            "s3cret-token",
            "Digest s3cret-token",
            "Basic ???",
            "Basic YQ==",
        ):
            assert status(wrong) == 401, wrong
        assert status("Bearer tökèn".encode()) == status("Bearer tökèn".encode("latin-1")) == 401
        assert status("Bearer s3cret-token") == status("bearer s3cret-token") == 200
        assert status("Basic " + base64.b64encode(b"anyone:s3cret-token").decode()) == 200


def test_a_request_keeps_its_id_and_gets_one_where_it_has_none(client: httpx.Client, url: str) -> None:
    assert client.get(f"{url}/health", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    made = [client.post(f"{url}/predict", json={}).headers["X-Request-ID"] for _ in range(2)]
    assert len(set(made)) == 2 and all(len(each) == 32 for each in made)
    for unusable in ("a" * 200, "a b", b"\xff"):
        assert len(client.get(f"{url}/nowhere", headers={"X-Request-ID": unusable}).headers["X-Request-ID"]) == 32


def test_a_failure_of_the_model_is_told_with_an_id_and_nothing_of_its_inside(
    client: httpx.Client, slow: SlowPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    slow.go_on.set()
    with listen(slow) as url:
        found = client.post(f"{url}/predict", json={"inputs": "fail"})
        assert found.status_code == 500 and "X-Request-ID" in found.headers
        assert found.headers["Connection"] == "close"  # the server closes it: no later request may be sent on it
        assert "made to fail" not in found.text
        wait_for(lambda: "made to fail" in caplog.text)
        assert client.post(f"{url}/predict", json={"inputs": "wet"}).status_code == 200


def test_counts_are_what_prometheus_reads(client: httpx.Client, one_column: Predictor) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with listen(one_column) as url:
        for _ in range(2):
            client.post(f"{url}/predict", json={"inputs": TEXTS})
        client.post(f"{url}/predict", json={})
        client.get(f"{url}/somewhere")
        told = client.get(f"{url}/metrics")
    assert told.headers["Content-Type"].startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(told.text)
        for sample in family.samples
    }
    assert found["fewtune_requests_total", "/predict", "200"] == 2
    assert found["fewtune_requests_total", "/predict", "422"] == 1
    assert found["fewtune_requests_total", "other", "404"] == 1
    assert found["fewtune_rows_total",] == 8 and found["fewtune_batches_total",] == 2
    assert found["fewtune_model_seconds_total",] > 0 and found["fewtune_queue_rows",] == 0
    assert found["fewtune_request_seconds_count", "/predict"] == 3
