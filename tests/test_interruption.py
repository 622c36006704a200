"""What interrupts a command: Ctrl-C, signals, a terminal that closes, the end of its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import PlainSerializer, TypeAdapter
from pydantic_core import PydanticSerializationError

from command_line import run_cli
from fewtune.records import load_records
from fewtune.system.signals import Interrupted, raise_on_signals
from fewtune.system.terminal import open_console


@pytest.mark.usefixtures("no_workers", "no_charts")
def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # The second trial is long enough to be interrupted.
    methods = "methods=[majority, pattern: {epochs: 60}]"
    command = ["run", str(study_file), "--out", str(out), "--set", methods, "--set", "data_seeds=[0]"]
    running = subprocess.Popen(
        [sys.executable, "-m", "fewtune.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    told = ""
    while "[1/2]" not in told:
        line = running.stdout.readline()
        assert line, f"the study ended before it could be interrupted: {told}"
        told += line
    os.killpg(running.pid, signal.SIGINT)
    told += running.communicate(timeout=60)[0]
    assert running.returncode == 130 and "Traceback" not in told
    assert "the same command goes on from there" in told
    kept = load_records(out)
    assert [record.status for record in kept] == ["done"]
    assert not list(out.rglob("*.part"))
    events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert events[-1] == "interrupted"
    code, told, _ = run_cli(*command, capsys=capsys)
    assert code == 0 and "2 trials, 1 already done" in told


def test_ctrl_c_outside_of_trials_has_a_word_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(out: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewtune.report.results.analyse_folder", interrupt)
    code, _, told = run_cli("report", "anywhere", capsys=capsys)
    assert code == 130 and told == "Stopped.\n"


def test_a_signal_to_end_is_told_and_written_down_and_finished_trials_are_kept(
    small_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fewtune.cli", "run", str(small_study), "--out", str(out)]
    command += ["--set", "data_seeds={count: 1000}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        while "[1/" not in (line := running.stdout.readline()):
            assert line, "the study ended before it could be stopped"
        os.killpg(
            running.pid, signal.SIGTERM
        )  # as a scheduler or a terminal does: every process of the command hears it
        _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM." in told and "Finished trials are kept" in told and "Traceback" not in told
    events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert events[-1] == "interrupted"
    assert {record.status for record in load_records(out)} == {"done"}
    assert not list(out.rglob("*.part"))


def test_a_reader_that_goes_ends_a_study_as_a_signal_does(small_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fewtune.cli", "run", str(small_study), "--out", str(out)]
    command += ["--set", "data_seeds={count: 1000}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        while "[1/" not in (line := running.stdout.readline()):
            assert line, "the study ended before its reader could"
        running.stdout.close()
        told = running.stderr.read()
    assert running.returncode == 141
    assert "Finished trials are kept" in told and "Traceback" not in told
    assert {record.status for record in load_records(out)} == {"done"}


def run_unread(*command: str, errors: bool = False) -> tuple[int, bytes]:
    """A command whose output, and errors too if so said, nobody reads: its exit code, and what it told of errors."""
    read, write = os.pipe()
    os.close(read)
    stderr = write if errors else subprocess.PIPE
    told = subprocess.run([sys.executable, "-m", "fewtune.cli", *command], stdout=write, stderr=stderr)
    os.close(write)
    return told.returncode, told.stderr or b""


@pytest.mark.parametrize("command", [["list", "methods"], ["schema"], ["--help"], ["--version"]])
def test_a_reader_that_goes_ends_what_only_prints_without_a_word(command: list[str]) -> None:
    assert run_unread(*command) == (141, b"")


def test_what_cannot_be_used_ends_with_2_though_nobody_reads_of_it() -> None:
    assert run_unread("report", "/nowhere", errors=True) == (2, b"")


def test_a_thread_that_draws_tells_the_command_that_nobody_reads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        console = open_console()
        drawing = threading.Thread(target=console.print, args=("drawn",))
        drawing.start()
        drawing.join()
        with pytest.raises(Interrupted):
            console.print("next")
        console.print("after that nothing, so that what is open can be closed")


CLOSE_TERMINAL = """
import os, pty, re, signal, sys
child, terminal = pty.fork()
if child == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves run under nohup
    os.execv(sys.executable, [sys.executable, "-m", "fewtune.cli", *sys.argv[1:]])
shown = b""
try:
    while not re.search(rb"\\b[1-9][0-9]* of 1000 trials", shown):  # a busy machine shows few of the counts
        shown = shown[-2000:] + os.read(terminal, 4096)
except OSError:
    sys.exit(f"the command ended by itself: {shown.decode(errors='replace')}")
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_terminal_that_is_closed_ends_its_run_as_a_hang_up(small_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", str(small_study), "--out", str(out), "--set", "data_seeds={count: 1000}"]
    done = subprocess.run([sys.executable, "-c", CLOSE_TERMINAL, *arguments], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGHUP, done.stderr
    assert json.loads((out / "events.jsonl").read_text().splitlines()[-1])["event"] == "interrupted"


def test_a_command_that_is_not_to_be_hung_up_is_not(small_study: Path, tmp_path: Path) -> None:
    code = "import signal, sys; from fewtune.system.signals import raise_on_signals\n"
    code += "with raise_on_signals(): signal.raise_signal(signal.SIGHUP)\nprint('went on')"
    done = subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "went on\n"


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_is_told_whatever_a_library_makes_of_it(number: int, raised: type[KeyboardInterrupt]) -> None:
    """pydantic raises an error of its own where a signal comes while it calls Python."""

    def end(value: int) -> int:
        os.kill(os.getpid(), number)
        return value

    serialiser = TypeAdapter(Annotated[int, PlainSerializer(end)])
    with pytest.raises(raised) as stopped, raise_on_signals():
        serialiser.dump_python(1)
    assert isinstance(stopped.value.__cause__, PydanticSerializationError)
    with pytest.raises(ValueError, match="another"), raise_on_signals():
        raise ValueError("another")


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_comes_while_an_object_is_thrown_away_comes_again(
    number: int, raised: type[KeyboardInterrupt], capfd: pytest.CaptureFixture[str]
) -> None:
    """Python prints what is raised there and goes on."""

    class Thrown:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    went_on = False
    with pytest.raises(raised), raise_on_signals():
        thrown = Thrown()
        del thrown
        went_on = True
        time.sleep(20)
    assert went_on and capfd.readouterr().err == ""


def test_a_worker_ends_with_the_command_that_started_it(study_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fewtune.cli", "run", str(study_file), "--out", str(tmp_path / "out")]
    command += ["--set", "methods.2.pattern.epochs=100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while "in_context" not in (line := running.stdout.readline()):
            assert line, "the study ended before it could be killed"
        running.kill()
        # The workers hold the command's output open: it closes once the last of them has ended.
        assert "pattern" not in running.stdout.read()
