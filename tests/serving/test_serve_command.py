"""The command itself: a process that answers and ends well, and what it refuses before it listens."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import fewtune
from fewtune.cli.app import main
from fewtune.errors import FewtuneError
from fewtune.predictors.predictor import Predictor
from fewtune.serving.limits import RequestLimits
from fewtune.serving.server import Address, Saved, open_socket, serve_model


@pytest.fixture(scope="module")
def saved(one_column: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tickets"
    one_column.save(folder)
    return folder


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, once it says that it answers, and its address."""
    ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where nohup started the tests, a child would ignore it too
    process = subprocess.Popen(
        [sys.executable, "-m", "fewtune.cli", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    signal.signal(signal.SIGHUP, ignored)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        found = re.search(r"tickets answers at (http://127\.0\.0\.1:\d+) ", told)
        assert found, told + process.stdout.read()
        yield process, found.group(1)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_it_once_what_is_under_way_is_answered_and_its_token_comes_from_the_environment(
    saved: Path, one_column: Predictor, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWTUNE_TOKEN", "s3cret-token")
    given = {"Authorization": "Bearer s3cret-token"}
    # A long window keeps a request under way while the signal comes.
    with serving(str(saved), "--window", "1000") as (process, url):
        answers: list[httpx.Response] = []
        asks = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{url}/predict", json={"inputs": "wet"}, headers=given, timeout=30)
            )
        )
        asks.start()
        waiting = "fewtune_queue_rows 1.0"
        assert httpx.get(f"{url}/metrics").status_code == 401
        while waiting not in httpx.get(f"{url}/metrics", headers=given).text:
            assert asks.is_alive()
        process.send_signal(number)
        asks.join()
        assert answers[0].json()[0]["label"] == one_column.predict(["wet"])[0]
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and said == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_it_ends_well_from_when_it_says_that_it_answers(saved: Path) -> None:
    with serving(str(saved)) as (process, _):
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and said == ""


def test_it_is_asked_under_the_names_it_is_told_and_waits_as_long_as_it_is_told(saved: Path) -> None:
    names = ("--allow-host", "model.example", "--allow-host", "Other.Example")
    with serving(str(saved), *names, "--max-receive", "0.5") as (_, url):
        hosts = ("model.example", "other.example:80", "localhost", "evil.example")
        found = [httpx.get(f"{url}/health", headers={"Host": host}).status_code for host in hosts]
        assert found == [200, 200, 200, 403]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as half:
            half.sendall(b"GET / HTTP/1.1\r\n")
            assert half.recv(1024).startswith(b"HTTP/1.1 408 ")


def refuse(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *map(str, arguments)])
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return " ".join((told.out + told.err).split())


def test_a_client_that_asks_row_after_row_waits_for_no_receipts() -> None:
    async def find_delay(listening: socket.socket) -> int:
        delays = asyncio.Queue[int]()

        def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            delays.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(greet, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.close()
            return await delays.get()

    assert asyncio.run(find_delay(open_socket("127.0.0.1", 0))), "small parts of an answer are held back"


def test_a_port_in_use_is_one_message(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refuse(saved, "--port", port, capsys=capsys)
    assert told == f"fewtune: port {port} of 127.0.0.1 is in use: give --port another, or 0 for any free one."


def test_a_port_that_another_took_while_the_model_was_read_is_the_same_message(saved: Path) -> None:
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]  # bound, and listening once this one's model is read
        with pytest.MonkeyPatch.context() as patched:
            load = fewtune.load

            def load_slowly(*given: object) -> object:
                taken.listen(1)
                return load(*given)  # type: ignore[arg-type]

            patched.setattr("fewtune.api.load", load_slowly)
            with pytest.raises(FewtuneError, match=f"port {port} of 127.0.0.1 is in use: give --port another"):
                serve_model(Saved(saved), Address(port=port), RequestLimits(), lambda name, url: None)


def test_a_folder_that_is_no_model_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no saved model" in refuse(tmp_path, "--port", 0, capsys=capsys)
    assert "no such folder" in refuse(tmp_path / "nowhere", "--port", 0, capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "which others can reach: give --token"),
        (("--host", "::"), "which others can reach: give --token"),
        (("--host", "example.org"), "which others can reach: give --token"),
        (("--host", "no.such.host.invalid", "--token", "long-enough"), "is no address of this machine"),
        (("--host", "a" * 100, "--token", "long-enough"), "is no address of this machine"),
        (("--host", "192.0.2.1", "--token", "long-enough"), "is no address of this machine"),
        (("--token", "short"), "--token should have 8 to 512 characters"),
        (("--token", "with a space"), "--token should have 8 to 512 characters"),
        (("--port", "70000"), "--port is 70000; give 0 to 65535."),
        (("--window", "nan"), "--window is nan; give 0 to 1000 milliseconds."),
        (("--batch-rows", "0"), "--batch-rows is 0; give 1 to 1000000."),
        (("--max-body", "much"), "--max-body is 'much'"),
        (("--max-receive", "0"), "--max-receive is 0; give 0.1 to 3600 seconds."),
        (("--allow-host", "model.example", "--allow-host", "http://b.example"), "--allow-host is 'http://b.example'"),
    ],
)
def test_options_that_cannot_be_used_are_told(
    saved: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refuse(saved, *arguments, capsys=capsys)


def test_without_its_packages_it_says_what_to_install(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("fewtune.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    told = refuse(saved, "--port", 0, capsys=capsys)
    assert "prometheus_client is not installed" in told and "pip install 'fewtune[serve]'" in told
