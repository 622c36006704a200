"""Clients of `fewtune serve` that send without end, too slowly, under other names or what is no request, and its end.

Owns such clients. Every server listens on 127.0.0.1 alone; each case opens a bounded number of connections, and sends a
bounded number of bytes. Whatever comes, the server takes little memory, answers others meanwhile, and ends well.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.stage import Running, Stage, Terms
from benchmarks.attack.verdict import Caught, judge_crash

TEXTS = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]
LABELS = ["praise", "praise", "complaint", "complaint"]
TOKEN = "s3cret-token"
BODY = b'{"inputs": "wet"}'
WAIT = 10.0
"""Seconds that a client waits for an answer."""
MOST_SENT = 16 << 20
"""Bytes that a client without end sends at most."""
MOST_GROWN = 64 << 20
"""Bytes that one client's headers may make the server grow by."""
LONGEST_HEALTH = 1.0
"""Seconds within which `/health` is answered meanwhile."""
RECEIVE = 1.0
"""Seconds that requests may take to arrive, as the server is told."""


@dataclass(frozen=True)
class Server:
    """A command that serves."""

    running: Running
    port: int
    patience: float
    """How many times as long as usual a client waits."""

    def connect(self) -> socket.socket:
        """A client's connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT * self.patience)

    def ask(self, request: bytes) -> Answer:
        """What a client gets that sends this and reads."""
        with self.connect() as client:
            client.sendall(request)
            return read_answer(client)

    def read_peak(self) -> int:
        """Bytes of memory that it held at most."""
        told = Path(f"/proc/{self.running.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", told)
        assert found is not None
        return int(found.group(1)) << 10

    def end(self) -> None:
        """Tell it to end."""
        assert self.running.process.pid is not None
        os.kill(self.running.process.pid, signal.SIGTERM)


@dataclass(frozen=True)
class Answer:
    """An answer: its status, 0 where there is none, and all that was received."""

    status: int
    received: bytes

    def __str__(self) -> str:
        return f"{self.received[-200:]!r}" if self.received else "no answer"


@contextlib.contextmanager
def serving(stage: Stage, *options: str) -> Iterator[Server]:
    """A server of a small model until the case is over; Caught where it crashes, or does not end well."""
    import fewtune

    fewtune.fit(TEXTS, LABELS, "tfidf").save(stage.folder / "model")
    running = stage.start("serve", stage.folder / "model", "--port", "0", *options, terms=Terms(limit=60))
    try:
        server = Server(running, _wait_for_port(running), stage.patience)
        yield server
    except BaseException:
        running.process.kill()
        raise
    if running.process.is_alive():
        server.end()
    outcome = running.wait()
    judge_crash(outcome)
    if outcome.code != 0:
        raise Caught("unclear", f"did not end well: {outcome}")


def _wait_for_port(running: Running) -> int:
    end = time.monotonic() + running.terms.limit
    while time.monotonic() < end:
        told = running.log.read_text() if running.log.is_file() else ""
        if found := re.search(r"answers at http://127\.0\.0\.1:(\d+)", told):
            return int(found.group(1))
        if not running.process.is_alive():
            break
        time.sleep(0.02)
    raise Caught("unclear", f"does not serve: {running.wait()}")


def write_request(head: Sequence[str] = (), body: bytes = BODY, path: str = "/predict") -> bytes:
    """A request with more header lines."""
    named = [line.partition(":")[0].lower() for line in head]
    lines = [f"POST {path} HTTP/1.1", *([] if "host" in named else ["Host: localhost"]), *head]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def read_answer(client: socket.socket) -> Answer:
    """Read one answer, as far as it comes."""
    received = b""
    with contextlib.suppress(OSError):  # it hung up, or keeps its client waiting
        while part := client.recv(65536):
            received += part
            head, ended, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if ended and (length is None or len(body) >= int(length.group(1))):
                break
    status = re.match(rb"HTTP/1\.1 (\d{3})", received)
    return Answer(int(status.group(1)) if status else 0, received)


def require_status(answer: Answer, *statuses: int) -> None:
    """Caught where a client got another status, or none."""
    if answer.status not in statuses:
        raise Caught("silent_wrong" if answer.status else "hang", f"{answer.status} and not {statuses}: {answer}")


def require_health(server: Server) -> None:
    """Caught where `/health` is late or no good."""
    began = time.perf_counter()
    require_status(server.ask(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 200)
    if time.perf_counter() - began > LONGEST_HEALTH * server.patience:
        raise Caught("hang", f"/health took {time.perf_counter() - began:.1f} s meanwhile")


def send_header(stage: Stage, line: str, piece: int, size: int, token: bool) -> None:
    """A header of so many bytes, 0 for one that never ends, in pieces: 431, little memory, others served meanwhile."""
    with serving(stage, *(("--token", TOKEN) if token else ())) as server:
        require_health(server)
        before = server.read_peak()
        with server.connect() as client:
            content = line.encode() * ((size or MOST_SENT) // len(line) + 1)
            header = (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\na: " + content)[: size or MOST_SENT]
            for start in range(0, len(header), piece):
                try:
                    client.sendall(header[start : start + piece])
                except OSError:  # it has answered and hung up
                    break
                if not start % (64 * piece):
                    require_health(server)
                if select.select([client], [], [], 0)[0]:
                    break
            else:
                client.sendall(b"\r\n\r\n")
            answer = read_answer(client)
        require_status(answer, 431)
        grown = server.read_peak() - before
        if grown > MOST_GROWN:
            raise Caught("silent_wrong", f"one client's header took {grown >> 20} MiB")
        require_health(server)


def ask_under(stage: Stage, header: str, value: str, options: Sequence[str], status: int) -> None:
    """A request that says such a Host or Origin: answered, or refused with the value told."""
    with serving(stage, *options) as server:
        token = [f"Authorization: Bearer {TOKEN}"] if "--token" in options else []
        answer = server.ask(write_request([f"{header}: {value}", *token]))
        require_status(answer, status)
        if status == 403 and value.encode() not in answer.received.partition(b"\r\n\r\n")[2]:
            raise Caught("unclear", f"the refusal tells no {value!r}: {answer}")


def stall(stage: Stage, sent: int, drip: bool) -> None:
    """A request of which so many bytes come, and the rest never or a byte at a time: 408, and others are served."""
    with serving(stage, "--max-receive", str(RECEIVE)) as server, server.connect() as client:
        request = write_request(["a: " + "b" * 1000], BODY + b" " * 1000)
        client.sendall(request[:sent])
        end = time.monotonic() + RECEIVE + WAIT * stage.patience
        for byte in request[sent:] if drip else b"":
            if time.monotonic() > end or select.select([client], [], [], 0.05)[0]:
                break
            client.sendall(bytes([byte]))
        require_status(read_answer(client), 408)
        require_health(server)


def end_meanwhile(stage: Stage, clients: int, sent: int, goes_on: bool) -> None:
    """The server is told to end when so many bytes of each client's request have come: all are answered before it has.

    Where they go on, with what they asked; where not, with 408.
    """
    request = write_request()
    with serving(stage, "--max-receive", str(RECEIVE * (1 if not goes_on else 10))) as server:
        with contextlib.ExitStack() as opened:
            connected = [opened.enter_context(server.connect()) for _ in range(clients)]
            for client in connected:
                client.sendall(request[:sent])
            server.end()
            if goes_on:
                for client in connected:
                    client.sendall(request[sent:])
            answers = [read_answer(client) for client in connected]
        lost = [answer for answer in answers if answer.status != (200 if goes_on else 408)]
        if lost:
            raise Caught("silent_wrong", f"{len(lost)} of {clients} clients were not answered, such as {lost[0]}")
        server.running.process.join(WAIT * stage.patience)
        if server.running.process.is_alive():
            raise Caught("hang", f"it has not ended {WAIT * stage.patience:.0f} s after its last answer")


def repeat_key(stage: Stage, path: str, body: str, key: str) -> None:
    """JSON with a key twice: refused, and the key told."""
    with serving(stage) as server:
        answer = server.ask(write_request(body=body.encode(), path=path))
        require_status(answer, 400, 422)
        told = json.loads(answer.received.partition(b"\r\n\r\n")[2])["error"]
        if repr(key) not in told:
            raise Caught("unclear", f"tells no {key!r}: {told}")


def send_junk(stage: Stage, seed: int, requests: int) -> None:
    """Requests with bytes changed, cut or doubled at random: the server goes on, and logs no crash of its own."""
    drawn = random.Random(seed)
    with serving(stage, "--max-receive", str(RECEIVE)) as server:
        for _ in range(requests):
            request = spoil(write_request(["Transfer-Encoding: chunked"] if drawn.random() < 0.3 else []), drawn)
            with server.connect() as client, contextlib.suppress(OSError):
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                read_answer(client)
        require_health(server)


def spoil(request: bytes, drawn: random.Random) -> bytes:
    """A request with bytes changed, left out or sent twice."""
    for _ in range(drawn.randint(1, 4)):
        place, ways = drawn.randrange(len(request)), drawn.randrange(3)
        before, after = request[:place], request[place:]
        if ways == 0:
            request = before + bytes([drawn.randrange(256)]) + after[1:]
        elif ways == 1:
            request = before + after[drawn.randint(1, 20) :] or b"\0"
        else:
            request = before + after + after
    return request


LINES = {"one line": "a" * 1000, "many lines": "b\r\na: ", "long lines": "b" * 4000 + "\r\na: "}
PIECES = {"at once": 1 << 18, "in pieces": 1000}


def header_cases(size: int) -> list[Case]:
    return [
        Case(
            f"{line}, {kind}, {piece}, {'a token' if token else 'no token'}",
            send_header,
            {"line": LINES[line], "piece": PIECES[piece], "size": bytes_sent, "token": token},
        )
        for line in LINES
        for kind, bytes_sent in (("no end", 0), ("100 kB", 100_000))
        for piece in PIECES
        for token in (False, True)
    ]


def host_cases(size: int) -> list[Case]:
    allowed = ("--allow-host", "model.example")
    token = ("--token", TOKEN)
    tried = [
        *(("Host", name, (), 200) for name in ("localhost", "127.0.0.1:80", "[::1]:8000", "127.9.9.9")),
        *(("Origin", f"http://{name}", (), 200) for name in ("localhost:3000", "127.0.0.1", "[::1]")),
        *(("Host", name, (), 403) for name in ("evil.example", "evil.example:80", "localhost.evil.example", "0.0.0.0")),
        *(("Origin", name, (), 403) for name in ("http://evil.example", "null", "https://127.0.0.1.evil.example")),
        ("Host", "model.example:80", allowed, 200),
        ("Origin", "https://model.example", allowed, 200),
        ("Host", "evil.example", allowed, 403),
        ("Host", "any.example", token, 200),
        ("Origin", "https://any.example", token, 200),
        ("Host", "any.example", (*token, *allowed), 403),
    ]
    return [
        Case(
            f"{header}: {value} {' '.join(options)} -> {status}",
            ask_under,
            {"header": header, "value": value, "options": options, "status": status},
        )
        for header, value, options, status in tried
    ]


def stall_cases(size: int) -> list[Case]:
    whole = len(write_request(["a: " + "b" * 1000]))
    places = {"nothing yet": 1, "half of the header": 500, "the header": whole - len(BODY), "half of the body": whole}
    return [
        Case(f"{name}, then {'a byte a time' if drip else 'nothing'}", stall, {"sent": sent, "drip": drip})
        for name, sent in places.items()
        for drip in (False, True)
    ]


def end_cases(size: int) -> list[Case]:
    whole = len(write_request())
    places = {"nothing": 0, "half of the header": 60, "the header": whole - len(BODY), "half of the body": whole - 5}
    cases = [
        Case(f"100 clients that sent {name} and go on", end_meanwhile, {"clients": 100, "sent": sent, "goes_on": True})
        for name, sent in {**places, "all": whole}.items()
    ]
    return cases + [
        Case(f"20 clients that sent {name} and stop", end_meanwhile, {"clients": 20, "sent": sent, "goes_on": False})
        for name, sent in places.items()
        if sent
    ]


def key_cases(size: int) -> list[Case]:
    bodies = {
        "the rows": ("/predict", '{"inputs": "wet", "inputs": "whole"}', "inputs"),
        "a column": ("/predict", '{"inputs": {"text": "wet", "text": "whole"}}', "text"),
        "a column of the second row": ("/predict", '{"inputs": [{"text": "a"}, {"text": "b", "text": "b"}]}', "text"),
        "a column, escaped": ("/predict", '{"inputs": {"text": "wet", "\\u0074ext": "whole"}}', "text"),
        "the model": ("/classify", '{"model": "model", "model": "model", "input": "wet"}', "model"),
        "what is not read": ("/classify", '{"input": "wet", "user": {"id": 1, "id": 2}}', "id"),
    }
    return [
        Case(name, repeat_key, dict(zip(("path", "body", "key"), given, strict=True))) for name, given in bodies.items()
    ]


def junk_cases(size: int) -> list[Case]:
    return [Case(f"seed {seed}", send_junk, {"seed": seed, "requests": 40}) for seed in range(size)]


KINDS = (
    Kind("headers without end, served", 17, header_cases, alone=True),
    Kind("names that a server is asked under", 17, host_cases),
    Kind("requests that never arrive", 17, stall_cases),
    Kind("a server that ends among its clients", 17, end_cases, alone=True),
    Kind("keys twice in a request", 17, key_cases),
    Kind("requests changed at random", 17, junk_cases, size=6),
)
