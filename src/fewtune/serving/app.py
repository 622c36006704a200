"""The HTTP application: what each path answers.

Owns the paths, how a body is received within its bound, and the form of every answer and refusal. Rows come together in
`batching`; what a request may say is `reading`. Shapes: `shapes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response

from fewtune import __version__
from fewtune.errors import FewtuneError, list_names
from fewtune.predictors.predictor import Predictor
from fewtune.serving.batching import Answers, Batcher, QueueFullError, StoppedError
from fewtune.serving.gate import Gate
from fewtune.serving.limits import RequestLimits
from fewtune.serving.metrics import CONTENT_TYPE, Metrics
from fewtune.serving.page import PAGE_HEADERS, write_documentation, write_form_page
from fewtune.serving.reading import Given, parse_object, read_name, read_request_rows, refuse_option
from fewtune.serving.refusals import RefusedError, answer_refusal
from fewtune.serving.shapes import (
    Classifications,
    Health,
    Prediction,
    Refusal,
    describe_classify,
    describe_predict,
)

DRAINED = 16
"""So many times a body's bound are still received of one that is too long: who is sending reads no answer before."""


@dataclass(frozen=True)
class Served:
    """A loaded model and the name it is served under."""

    name: str
    predictor: Predictor


def create_app(served: Served, limits: RequestLimits, token: str | None = None, names: Collection[str] = ()) -> Gate:
    """The application that serves a model; with a token, all but `/health` asks for it. `names`: as Gate takes them."""
    metrics = Metrics(lambda: batcher.count_waiting())
    batcher = Batcher(served.predictor, limits, metrics.count_batch)

    @contextlib.asynccontextmanager
    async def run_model(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        try:
            yield
        finally:
            await asyncio.to_thread(batcher.stop)

    app = FastAPI(
        title=f"fewtune: {served.name}",
        version=__version__,
        description=f"Labels: {list_names(served.predictor.labels)}. Columns: {list_names(served.predictor.fields)}.",
        lifespan=run_model,
        docs_url=None,
        redoc_url=None,
        responses=_describe_refusals(401, 403, 431),
    )
    _add_refusals(app)
    _add_answers(app, _Service(served, limits, batcher))
    _add_status(app, batcher, metrics)
    _add_pages(app, served)
    paths = {*app.openapi()["paths"], "/", "/docs", "/openapi.json"}
    return Gate(app, token, names, limits.header_bytes, paths, metrics.count_request)


@dataclass(frozen=True)
class _Service:
    """What answers rows."""

    served: Served
    limits: RequestLimits
    batcher: Batcher

    async def receive(self, request: Request) -> dict[str, Any]:
        """The JSON object of a request."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"the body's type is {kind or 'not told'}: send it with Content-Type: application/json."
            raise RefusedError(415, "content_type", message)
        return parse_object(await receive_body(request, self.limits))

    async def answer(self, request: Request, given: Given, counted: bool = False) -> Answers:
        """Have rows scored, once there is room for them; rows of a client that goes are given up."""
        try:
            future = self.batcher.submit(given.rows, counted)
        except QueueFullError as full:
            raise RefusedError(429, "overloaded", str(full), [("Retry-After", str(full.seconds))]) from full
        answered, gone = asyncio.wrap_future(future), asyncio.create_task(_wait_until_gone(request))
        waited: set[asyncio.Future[Any]] = {answered, gone}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                answered.cancel()
                raise ClientDisconnect
            if answered.cancelled() or isinstance(answered.exception(), StoppedError):
                raise RefusedError(503, "unhealthy", "the model has stopped: start the server again.")
            return answered.result()
        finally:
            gone.cancel()


async def _wait_until_gone(request: Request) -> None:
    """Wait until the client of a request, whose body has been received, hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def receive_body(request: Request, limits: RequestLimits) -> bytes:
    """A request's body; raises RefusedError where it is late, or longer than its bound, of which no more is held."""
    body, received = bytearray(), 0
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for chunk in request.stream():
                received += len(chunk)
                if received <= limits.body_bytes:
                    body += chunk
                elif received > limits.body_bytes * DRAINED:
                    break
    except TimeoutError as error:
        message = f"the body did not arrive within {limits.receive_seconds:g} s: send fewer rows, or sooner."
        raise RefusedError(408, "timeout", message, [("Connection", "close")]) from error
    if received > limits.body_bytes:
        message = f"the body has more than {limits.body_bytes} bytes: send fewer rows, or shorter ones."
        raise RefusedError(413, "body_size", message)
    return bytes(body)


def _add_answers(app: FastAPI, service: _Service) -> None:
    predictor, name = service.served.predictor, service.served.name
    labels, fields, limits = predictor.labels, predictor.fields, service.limits

    @app.post(
        "/predict",
        response_description="The answers.",
        summary="Every label with its probability, likeliest first, for one row or a list of rows.",
        response_model=list[Prediction] | list[list[Prediction]],
        responses=_describe_refusals(400, 408, 413, 415, 422, 429),
        openapi_extra=describe_predict(fields, limits),
    )
    async def predict(request: Request) -> Response:
        content = await service.receive(request)
        refuse_option(content, "raw_scores", allowed=False)
        given = read_request_rows(content, "inputs", fields, limits)
        answers = await service.answer(request, given)
        ranked = [rank_labels(labels, row) for row in answers.probabilities]
        return JSONResponse(ranked[0] if given.single else ranked)

    @app.post(
        "/classify",
        response_description="The answers.",
        summary="The likeliest label and the probability of each, in the model's order, a row.",
        response_model=Classifications,
        responses=_describe_refusals(400, 404, 408, 413, 415, 422, 429),
        openapi_extra=describe_classify(fields, limits, name),
    )
    async def classify(request: Request) -> Response:
        content = await service.receive(request)
        read_name(content, name)
        for option in ("use_activation", "activation", "softmax"):
            refuse_option(content, option, allowed=True)
        answers = await service.answer(request, read_request_rows(content, "input", fields, limits), counted=True)
        return JSONResponse(classify_rows(predictor, name, answers))


def rank_labels(labels: Sequence[str], probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Labels with their probabilities (labels,), likeliest first, as Text Embeddings Inference has them."""
    order = np.argsort(-probabilities, kind="stable")
    return [{"score": float(probabilities[place]), "label": labels[place]} for place in order]


def classify_rows(predictor: Predictor, name: str, answers: Answers) -> dict[str, Any]:
    """What came of a request's rows, as vLLM has it, and where a model may abstain whether it does."""
    labels = predictor.labels
    data: list[dict[str, Any]] = [
        {"index": index, "label": labels[int(row.argmax())], "probs": row.tolist(), "num_classes": len(labels)}
        for index, row in enumerate(answers.probabilities)
    ]
    if predictor.abstention is not None:
        for row, answer in zip(data, predictor.answer(answers.probabilities), strict=True):
            row["abstained"] = answer is None
    usage = {"prompt_tokens": answers.tokens, "total_tokens": answers.tokens}
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": name,
        "data": data,
        "usage": {**usage, "completion_tokens": 0, "prompt_tokens_details": None},
    }


def _add_status(app: FastAPI, batcher: Batcher, metrics: Metrics) -> None:
    @app.get(
        "/health",
        response_description="It does.",
        summary="Whether the server answers.",
        response_model=Health,
        responses={503: {"model": Refusal, "description": "The model has stopped."}},
    )
    async def health() -> Response:
        if not batcher.is_running():
            raise RefusedError(503, "unhealthy", "the model has stopped: start the server again.")
        return JSONResponse({"status": "ok"})

    @app.get(
        "/metrics",
        response_description="The counts.",
        summary="Requests, rows, batches, seconds and the queue, for Prometheus.",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def write_metrics() -> Response:
        return Response(metrics.write(), media_type=CONTENT_TYPE)


def _add_pages(app: FastAPI, served: Served) -> None:
    predictor = served.predictor
    least = 0.0 if predictor.abstention is None else predictor.abstention.threshold
    page = write_form_page(served.name, predictor.labels, predictor.fields, least)
    documentation = write_documentation(app.openapi())

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def show_documentation() -> Response:
        return HTMLResponse(documentation, headers=PAGE_HEADERS)


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refuse(request: Request, refused: RefusedError) -> Response:
        return answer_refusal(refused)

    @app.exception_handler(FewtuneError)
    async def refuse_rows(request: Request, error: FewtuneError) -> Response:
        return answer_refusal(RefusedError(422, "validation", str(error)))

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}. /docs says what there is."
        return answer_refusal(RefusedError(error.status_code, "path", message, [*(error.headers or {}).items()]))

    @app.exception_handler(ClientDisconnect)
    async def hang_up(request: Request, error: ClientDisconnect) -> Response:
        return answer_refusal(RefusedError(400, "disconnected", "the client went before it was answered."))

    @app.exception_handler(Exception)
    async def tell_failure(request: Request, error: Exception) -> Response:
        """Answer 500; the error goes on to the server, which tells it and closes the connection."""
        message = "the model failed on this request: the server's own output says why."
        return answer_refusal(RefusedError(500, "backend", message, [("Connection", "close")]))


def _describe_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    reasons = {
        400: "The body is not UTF-8 or not JSON.",
        401: "The token is missing or wrong.",
        403: "Host or Origin is none that this server answers.",
        404: "Another model is served.",
        408: "The body took too long to arrive.",
        413: "The body is too long.",
        415: "The body is not told to be JSON.",
        422: "The body says what cannot be used: rows, texts, columns, options.",
        429: "Too many rows wait; Retry-After says for how many seconds.",
        431: "The header is too long.",
    }
    return {status: {"model": Refusal, "description": reasons[status]} for status in statuses}
