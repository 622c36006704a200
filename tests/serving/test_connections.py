"""What a client sends is bounded in bytes and time however it is cut, and a server's end loses nobody who had begun."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from fewtune.predictors.predictor import Predictor
from fewtune.serving.app import Served, create_app
from fewtune.serving.connections import Server
from fewtune.serving.limits import RequestLimits
from fewtune.serving.server import open_socket
from serving_models import SlowPredictor, listen, serve
from waiting import wait_for

TOKEN = "s3cret-token"
MOST = RequestLimits().header_bytes
BODY = b'{"inputs": "wet"}'
HEADER = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
)


@contextmanager
def connect(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as made:
        yield made


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """An answer's status, headers in small letters, and JSON."""
    received = b""
    while (ends := received.find(b"\r\n\r\n")) < 0 or len(received) < ends + 4 + _find_length(received):
        part = connection.recv(65536)
        assert part, f"it hung up after {received!r}"
        received += part
    lines = received[:ends].decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(received[ends + 4 :])


def _find_length(received: bytes) -> int:
    found = re.search(rb"content-length: (\d+)", received.lower())
    return int(found.group(1)) if found else 0


def long_header(size: int, line: int) -> bytes:
    """A header of about so many bytes, in lines of so many."""
    start = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    one = b"a: " + b"b" * (line - 5) + b"\r\n"
    return start + one * ((size - len(start)) // line) + b"\r\n"


@pytest.mark.parametrize("line", [8, 4_000, 60_000], ids=["many small", "middling", "one large"])
@pytest.mark.parametrize("cut", [0, 1000], ids=["whole", "cut"])
@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "with a token"])
def test_a_header_is_bounded_before_the_token_is_asked_for(
    one_column: Predictor, line: int, cut: int, token: str | None
) -> None:
    with listen(one_column, token=token) as url:
        for header, status in (
            (long_header(MOST - 2000, line), 401 if token else 200),
            (long_header(MOST * 2, line), 431),
        ):
            with connect(url) as sent:
                pieces = [header[i : i + cut] for i in range(0, len(header), cut)] if cut else [header]
                for piece in pieces:
                    sent.sendall(piece)
                if status == 200:
                    assert sent.recv(1024).startswith(b"HTTP/1.1 200 ")
                    continue
                found, headers, told = read_answer(sent)
                assert found == status and "x-request-id" in headers
                if status == 431:
                    assert told == {
                        "error": f"the headers have more than {MOST} bytes: send fewer, or shorter.",
                        "error_type": "header_size",
                    }


@pytest.mark.parametrize("endless", [b"a" * 8192, b"a: b\r\n" * 1000], ids=["one line", "many lines"])
def test_a_header_without_end_is_answered_and_not_kept(
    client: httpx.Client, one_column: Predictor, endless: bytes
) -> None:
    with listen(one_column, token=TOKEN) as url, connect(url) as sent:
        sent.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\na: ")
        for _ in range(50):  # six times the bound
            sent.sendall(endless)
        status, headers, told = read_answer(sent)
        assert (status, headers["connection"], told["error_type"]) == (431, "close", "header_size")
        assert sent.recv(1) == b"", "it is closed"
        assert client.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS handshake
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"\r\n\r\n\r\n", 400),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEADER.replace(b"Content-Length: 17", b"Content-Length: x"), 400),
        (HEADER.replace(b"Content-Length: 17", b"Transfer-Encoding: gzip"), 501),
        (HEADER.replace(b"Content-Length: 17", b"Transfer-Encoding: chunked") + b"no number\r\n", 400),
    ],
)
def test_what_is_no_http_is_told_so_in_words_and_in_no_log(
    url: str, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    with connect(url) as connection:
        connection.sendall(sent)
        found, headers, told = read_answer(connection)
        assert (found, headers["connection"], told["error_type"]) == (status, "close", "http")
        assert told["error"].startswith("this is no HTTP/1.1 that can be read (")
        assert connection.recv(1) == b""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_body_that_is_none_after_its_refusal_ends_the_connection_and_no_more(
    one_column: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    with listen(one_column, token=TOKEN) as url, connect(url) as connection:
        connection.sendall(HEADER.replace(b"Content-Length: 17", b"Transfer-Encoding: chunked"))
        assert read_answer(connection)[0] == 401
        connection.sendall(b"no number\r\n")
        assert connection.recv(1) == b""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


QUICK = RequestLimits(receive_seconds=1.0)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (HEADER[:40], "the header did not arrive within 1 s: send it at once."),
        (HEADER, "the body did not arrive within 1 s: send fewer rows, or sooner."),
        (HEADER + BODY[:5], "the body did not arrive within 1 s: send fewer rows, or sooner."),
    ],
)
def test_a_request_that_does_not_arrive_is_told_so(one_column: Predictor, sent: bytes, told: str) -> None:
    with listen(one_column, QUICK) as url, connect(url) as connection:
        connection.sendall(sent)
        status, headers, found = read_answer(connection)
        assert (status, found["error_type"], found["error"]) == (408, "timeout", told)
        assert headers["connection"] == "close" and "x-request-id" in headers
        assert connection.recv(1) == b""


def test_a_request_that_drips_has_no_more_time(one_column: Predictor) -> None:
    with listen(one_column, QUICK) as url, connect(url) as connection:
        answered = threading.Event()

        def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"a" * 10_000:
                if answered.wait(0.05):
                    return
                connection.sendall(bytes([byte]))

        drips = threading.Thread(target=drip)
        drips.start()
        try:
            assert read_answer(connection)[0] == 408
        finally:
            answered.set()
            drips.join()


def test_nobody_holds_a_connection_for_what_never_comes(one_column: Predictor) -> None:
    with listen(one_column, QUICK, token=TOKEN) as url:
        with connect(url) as refused:
            refused.sendall(HEADER + BODY[:5])
            assert read_answer(refused)[0] == 401
            assert refused.recv(1) == b"", "what is left of its body is waited for no longer"
        with connect(url) as silent:
            assert silent.recv(1) == b""


def test_a_body_that_is_late_is_counted_as_such(client: httpx.Client, one_column: Predictor) -> None:
    with listen(one_column, QUICK) as url:
        with connect(url) as connection:
            connection.sendall(HEADER)
            read_answer(connection)
        assert 'fewtune_requests_total{path="/predict",status="408"} 1.0' in client.get(f"{url}/metrics").text


def refuses(url: str) -> bool:
    try:
        with connect(url):
            return False
    except ConnectionRefusedError:
        return True


def test_requests_that_had_begun_to_arrive_when_it_is_to_end_are_answered(one_column: Predictor) -> None:
    cuts = [1, 30, len(HEADER) - 1, len(HEADER), len(HEADER) + 5] * 5
    with serve(one_column) as (server, url), ExitStack() as opened:
        clients = [opened.enter_context(connect(url)) for _ in cuts]
        for client, cut in zip(clients, cuts, strict=True):
            client.sendall((HEADER + BODY)[:cut])
        server.should_exit = True
        wait_for(lambda: refuses(url))
        for client, cut in zip(clients, cuts, strict=True):
            client.sendall((HEADER + BODY)[cut:])
            status, headers, _ = read_answer(client)
            assert (status, headers["connection"]) == (200, "close")


def test_who_has_connected_and_was_not_yet_let_in_is_answered(one_column: Predictor) -> None:
    listening = open_socket("127.0.0.1", 0)
    with ExitStack() as opened:
        clients: list[socket.socket] = []

        class Busy(Server):
            async def main_loop(self) -> None:
                """Clients come while the loop does something else, and the end follows at once."""
                for _ in range(50):
                    clients.append(opened.enter_context(socket.create_connection(listening.getsockname(), timeout=20)))
                    clients[-1].sendall(HEADER + BODY)

        server = Busy(create_app(Served("tickets", one_column), RequestLimits()), RequestLimits(), lambda: None)
        server.run(sockets=[listening])
        assert [read_answer(client)[0] for client in clients] == [200] * 50


def test_a_request_that_never_arrives_holds_the_end_no_longer_than_it_may_take(
    one_column: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(one_column, QUICK) as (server, url), connect(url) as body, connect(url) as header:
        body.sendall(HEADER + BODY[:5])
        header.sendall(HEADER[:30])
        server.should_exit = True
        assert [read_answer(each)[0] for each in (body, header)] == [408, 408]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def set_short_stop(server: Server) -> None:
    server.config.timeout_graceful_shutdown = 1


def press_again(server: Server) -> None:
    server.force_exit = True


@pytest.mark.parametrize("hurry", [set_short_stop, press_again], ids=["two minutes over", "Ctrl-C again"])
def test_who_is_not_answered_by_the_end_is_told_so_without_a_traceback(
    slow: SlowPredictor, caplog: pytest.LogCaptureFixture, hurry: Callable[[Server], None]
) -> None:
    with serve(slow, RequestLimits(window_seconds=0.0)) as (server, url), connect(url) as asked, connect(url) as half:
        asked.sendall(HEADER + BODY)
        half.sendall(HEADER)
        wait_for(lambda: slow.calls == [1])
        hurry(server)
        server.should_exit = True
        for connection in (asked, half):
            status, _, told = read_answer(connection)
            assert (status, told["error"]) == (503, "the server ended before this was answered: ask again.")
        slow.go_on.set()
    assert not [record for record in caplog.records if record.exc_info]
