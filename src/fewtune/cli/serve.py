"""`fewtune serve`: a saved model behind HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fewtune.cli.options import Base, check_number
from fewtune.cli.output import say
from fewtune.cli.predict import Model
from fewtune.errors import FewtuneError
from fewtune.system.sizes import parse_bytes

MOST = 1_000_000
LONGEST_WINDOW = 1_000
LONGEST_RECEIVE = 3_600


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Where it listens, and who may ask."""

    host: Annotated[str, Parameter(help="Address to listen on; one that others reach demands a token.")] = "127.0.0.1"
    port: Annotated[int, Parameter(help="Port; 0 for any free one.")] = 8000
    token: Annotated[
        str | None, Parameter(help="What clients send as Authorization: Bearer TOKEN.", env_var="FEWTUNE_TOKEN")
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(help="A name besides this machine's own that it may be asked under; repeat for more.", negative=""),
    ] = ()


@Parameter(name="*")
@dataclass(frozen=True)
class ServingOptions:
    """What is taken, and how rows come together."""

    window: Annotated[float, Parameter(help="Milliseconds that a row waits for others to be scored with.")] = 5.0
    batch_rows: Annotated[int, Parameter(help="Rows scored in one call of the model.")] = 64
    max_waiting: Annotated[int, Parameter(help="Rows that wait for the model; more are told to come later.")] = 1024
    max_rows: Annotated[int, Parameter(help="Rows of a request.")] = 256
    max_characters: Annotated[int, Parameter(help="Characters of one text.")] = 20_000
    max_body: Annotated[str, Parameter(help="Size of a request's body.")] = "2MiB"
    max_receive: Annotated[
        float, Parameter(help="Seconds that a request's header, and then its body, may take to arrive.")
    ] = 30.0


def serve(
    model: Model, /, *, where: Where = Where(), bounds: ServingOptions = ServingOptions(), base: Base = None
) -> int:
    """Serve a saved model over HTTP until Ctrl-C: /predict, /classify, a page to try it by hand, /docs."""
    from fewtune.running.executors.process import set_up_here
    from fewtune.serving.limits import RequestLimits
    from fewtune.serving.server import Address, Saved, serve_model

    check_number("--port", where.port, 0, 65_535)
    if not 0 <= bounds.window <= LONGEST_WINDOW:
        raise FewtuneError(f"--window is {bounds.window:g}; give 0 to {LONGEST_WINDOW} milliseconds.")
    if not 0.1 <= bounds.max_receive <= LONGEST_RECEIVE:
        raise FewtuneError(f"--max-receive is {bounds.max_receive:g}; give 0.1 to {LONGEST_RECEIVE} seconds.")
    counts = {"--batch-rows": bounds.batch_rows, "--max-waiting": bounds.max_waiting, "--max-rows": bounds.max_rows}
    for option, number in {**counts, "--max-characters": bounds.max_characters}.items():
        check_number(option, number, 1, MOST)
    limits = RequestLimits(
        body_bytes=parse_bytes("--max-body", bounds.max_body),
        rows=bounds.max_rows,
        characters=bounds.max_characters,
        waiting_rows=bounds.max_waiting,
        batch_rows=bounds.batch_rows,
        receive_seconds=bounds.max_receive,
        window_seconds=bounds.window / 1000,
    )
    set_up_here()
    address = Address(where.host, where.port, where.token, where.allow_host)
    serve_model(Saved(model, base), address, limits, _say_ready)
    return 0


def _say_ready(name: str, url: str) -> None:
    say(f"{name} answers at {url} (a page to try it; {url}/docs for the API). Ctrl-C ends it.")
