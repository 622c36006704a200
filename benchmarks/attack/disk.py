"""Disks that are full, gone or read-only, memory that runs out, and processes that are killed or stand still.

Owns these circumstances. Whatever happens to a run, the next one in its folder ends with every trial done and the
metrics and predictions of the undisturbed run, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import (
    copy_finished,
    make_wide_study,
    read_outcomes,
    require_done,
    require_equal,
    study_of,
)
from benchmarks.attack.stage import Running, Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, judge_crash, judge_refusal
from fewtune.records import unpack

LONG = Terms(limit=60)
ALWAYS = re.compile(
    r"(trials/\w+\.json|predictions/\w+\.parquet|study\.yaml|planned\.json|looks\.json|events\.jsonl|report\.html|\.lock)"
)
"""The files of an output folder, when nothing was left behind."""
TOLD_TO_END = (128 + signal.SIGHUP, 128 + signal.SIGTERM)
"""Exit codes of a command that was told to end, besides Ctrl-C's 130."""
STALLED = 5.0
"""Seconds without progress after which a run is told to end a worker."""
MOUNT = ctypes.CDLL(None, use_errno=True)
READ_ONLY, REMOUNT, DETACH = 1, 32, 2


def fill_disk(stage: Stage, kibibytes: int) -> None:
    """A run on a disk too small: one message with the path; with more room, the next run ends as ever."""
    disk = stage.folder / "disk"
    with mounted(disk, f"size={kibibytes}k"):
        outcome = stage.command("run", stage.material / "study.yaml", "--out", disk / "out", terms=LONG)
        judge_crash(outcome)
        if outcome.code != 0:
            if outcome.code != 2 or "disk" not in outcome.output or "space" not in outcome.output:
                raise Caught("unclear", f"names no path and no reason: {outcome}")
            for command in ("watch", "report"):
                if (disk / "out").is_dir():
                    judge_crash(stage.command(command, disk / "out"))
        mount(disk, "size=64m", REMOUNT)
        require_resumed(stage, disk / "out")


def write_on_small_disk(stage: Stage, what: str, share: float) -> None:
    """What a command writes finds room for a share alone: one message, nothing left; with more room it is whole."""
    disk = stage.folder / "disk"
    arguments, place = WRITERS[what](stage), disk / "out"
    with mounted(disk, "size=64m"):
        _require_written(stage.command(*arguments, place, terms=LONG))
        stands, whole = os.statvfs(disk), _list_names(disk)
        pages = stands.f_blocks - stands.f_bfree
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        mount(disk, f"size={max(1, int(pages * share)) * stands.f_frsize}", REMOUNT)
        judge_refusal(stage.command(*arguments, place, terms=LONG), ["disk/out", "space"])
        if left := _list_names(disk):
            raise Caught("silent_wrong", f"left behind: {left[:3]}")
        mount(disk, "size=64m", REMOUNT)
        _require_written(stage.command(*arguments, place, terms=LONG))
        if _list_names(disk) != whole:
            raise Caught("silent_wrong", f"{len(_list_names(disk))} files and folders, and not {len(whole)}")


def pack_on_small_disk(stage: Stage, kibibytes: int) -> None:
    """A study that there is no room to pack stays what it was; with room it is packed."""
    disk = stage.folder / "disk"
    with mounted(disk, "size=64m"):
        out = Path(shutil.copytree(stage.material / "finished", disk / "out"))
        stands, before = os.statvfs(disk), _list_names(disk)
        mount(disk, f"size={(stands.f_blocks - stands.f_bfree) * stands.f_frsize + (kibibytes << 10)}", REMOUNT)
        outcome = stage.command("pack", out)
        if outcome.code != 0:
            judge_refusal(outcome, ["disk/out", "space"])
            if _list_names(disk) != before:
                raise Caught("silent_wrong", f"left behind: {sorted(set(_list_names(disk)) - set(before))[:3]}")
            mount(disk, "size=64m", REMOUNT)
            _require_written(stage.command("pack", out))
        require_equal(read_outcomes(_unpack(stage, out)), read_outcomes(stage.material / "finished"))


def _unpack(stage: Stage, out: Path) -> Path:
    """A copy of a packed study, taken apart as `run` does to add a trial."""
    again = Path(shutil.copytree(out, stage.folder / "again"))
    unpack(again)
    return again


def _require_written(outcome: Outcome) -> None:
    judge_crash(outcome)
    if outcome.code != 0:
        raise Caught("unclear", f"did not go on: {outcome}")


def _list_names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


def _write_long_rows(stage: Stage) -> Path:
    """Labelled rows whose words take some hundred kilobytes, and so does a model of them."""
    path = stage.folder / "long.csv"
    rows = [" ".join(f"w{i}x{k}" for k in range(60)) + f",{('bad', 'good')[i % 2]}" for i in range(120)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def _fit(stage: Stage, method: str) -> tuple[str | Path, ...]:
    import tiny_models

    model = tiny_models.save("llama", stage.folder / "wider", times_wider=4)
    rows = _write_long_rows(stage) if method == "tfidf" else stage.material / "rows.csv"
    return ("fit", rows, "--method", method, "--model", model, "--folds", "0", "--save")


def _save(stage: Stage, method: str) -> Path:
    saved = stage.folder / "saved"
    _require_written(stage.command(*_fit(stage, method), saved, terms=LONG))
    return saved


WRITERS: dict[str, Callable[[Stage], tuple[str | Path, ...]]] = {
    "a model of words": partial(_fit, method="tfidf"),
    "a model's weights": partial(_fit, method="pattern"),
    "an adapter": partial(_fit, method="lora"),
    "an export of words": lambda stage: ("export", _save(stage, "tfidf")),
    "an export": lambda stage: ("export", _save(stage, "pattern")),
    "an export with its graph": lambda stage: ("export", _save(stage, "vanilla"), "--onnx"),
    "answers": lambda stage: (
        "predict", _save(stage, "tfidf"), _write_long_rows(stage), "--keep", "text", "--out"
    ),
    "figures": lambda stage: ("report", stage.material / "finished", "--figures"),
    "a merged study": lambda stage: ("merge", stage.material / "finished", "--out"),
}  # fmt: skip
"""What commands write as their result: their arguments, but for the place that comes last."""


def end_ray(stage: Stage, name: str) -> None:
    """A process of Ray's on the command's own node is killed: one message, not code 0; the same command goes on."""
    if importlib.util.find_spec("ray") is None:
        raise Caught("skipped", "Ray is not installed here")
    study, out = study_of(stage, methods="majority, {pattern: {epochs: 600}}"), stage.folder / "out"
    terms = Terms(limit=180)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        outcome = stage.real_command(
            "run", study, "--out", out, "--executor", "ray", "--workers", "1", "--set", "resources={memory: 256MiB}",
            terms=Terms(limit=180, environment={"RAY_TMPDIR": folder, "RAY_ADDRESS": ""}),
            meanwhile=partial(_kill_once, out=out, name=name, seconds=90 * stage.patience),
        )  # fmt: skip
    if outcome.code == 1:  # Ray's own, where it is faster than the command: another process says why
        outcome = replace(outcome, code=2)
    judge_refusal(outcome, ["the Ray node", "Finished trials are kept in", "the same command goes on"])
    require_done(out, stage.command("run", study, "--out", out, terms=terms))


def _kill_once(command: int, out: Path, name: str, seconds: float) -> None:
    """Once a trial has its record, kill the processes that a command started and that are called so."""
    until = time.monotonic() + seconds
    while not any(out.glob("trials/*.json")) and psutil.pid_exists(command) and time.monotonic() < until:
        time.sleep(0.05)
    killed = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(command).children(recursive=True):
            if process.name()[:15] == name[:15]:  # as many letters as the system keeps
                process.kill()
                killed += 1
    if not killed:
        raise RuntimeError(f"no process is called {name}")


def spoil_cache(stage: Stage, how: str) -> None:
    """A local model and local rows need no cache: the run ends as ever."""
    cache = stage.folder / "cache"
    options = {"read-only": ("size=1m", READ_ONLY), "full": ("size=4k", 0)}.get(how)
    if options is None:
        cache.write_text("x") if how == "a file" else cache.symlink_to(cache)
        _run_with(stage, cache)
        return
    with mounted(cache, *options):
        if how == "full":
            with contextlib.suppress(OSError):  # that it is full is what is wanted
                (cache / "filler").write_bytes(bytes(1 << 20))
        _run_with(stage, cache)


def _run_with(stage: Stage, cache: Path) -> None:
    terms = Terms(limit=60, environment={"FEWTUNE_CACHE": str(cache)})
    outcome = stage.command("run", stage.material / "study.yaml", "--out", "out", terms=terms)
    require_equal(require_done(stage.folder / "out", outcome), read_outcomes(stage.material / "finished"))


def write_nowhere(stage: Stage, what: str) -> None:
    """An output folder that cannot be written: refused with its path."""
    disk = stage.folder / "disk"
    with mounted(disk, "size=8m"):
        shutil.copytree(stage.material / "finished", disk / "out")
        mount(disk, "size=8m", REMOUNT | READ_ONLY)
        place = disk / ("new" if what == "a new folder" else "out")
        study = ("run", stage.material / "study.yaml", "--out")
        judge_refusal(stage.command(*(("report",) if what == "a report" else study), place, terms=LONG), ["disk"])


def delete_while_running(stage: Stage, delay: float) -> None:
    """The output folder goes while trials run: told, not with code 0; the next run ends as ever."""
    out = stage.folder / "out"
    running = stage.start("run", stage.material / "study.yaml", "--out", out, terms=LONG)
    _wait_for(lambda: any(out.glob("trials/*.json")), running)
    time.sleep(delay)
    shutil.rmtree(out, ignore_errors=True)
    outcome = running.wait()
    judge_crash(outcome)
    if outcome.code == 0 and len(read_outcomes(out)) < len(read_outcomes(stage.material / "finished")):
        raise Caught("silent_wrong", f"code 0, and records are missing: {outcome}")
    if outcome.code != 0 and "out" not in outcome.output:
        raise Caught("unclear", f"names no folder: {outcome}")
    require_resumed(stage, out)


def end_command(stage: Stage, number: int, delay: float) -> None:
    """The command is sent a signal; the next run ends as ever. Told to end, it says so and writes it down."""
    out = stage.folder / "out"
    running = stage.start("run", stage.material / "study.yaml", "--out", out, terms=LONG)
    time.sleep(delay)
    began = (out / "events.jsonl").is_file()
    if running.process.is_alive() and running.process.pid is not None:
        os.kill(running.process.pid, number)
    outcome = running.wait()
    if outcome.code is None:
        raise Caught("hang", str(outcome))
    if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT) and began and outcome.code != 0:
        if not re.search(r"stopp|ended|terminat|hung up", outcome.output, re.IGNORECASE):
            raise Caught("unclear", f"ends without a word: {outcome}")
        events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
        if events[-1] in ("run", "started", "finished") and len(read_outcomes(out)) < 6:
            raise Caught("unclear", f"ends without an event: {events[-3:]}")
    if outcome.code not in (0, -signal.SIGKILL, -number):
        judge_crash(
            Outcome(
                outcome.arguments, 130 if outcome.code in TOLD_TO_END else outcome.code, outcome.output, outcome.seconds
            )
        )
    wait_for_workers(running, 10 * stage.patience)
    require_resumed(stage, out)


def end_worker(stage: Stage, number: int, delay: float) -> None:
    """A trial worker is sent a signal: its trial is lost, the others run; the next run ends as ever."""
    out = stage.folder / "out"
    running = stage.start("run", stage.material / "study.yaml", "--out", out, terms=LONG)
    _wait_for(lambda: bool(running.worker_pids()), running)
    time.sleep(delay)
    for pid in running.worker_pids()[-1:]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
    outcome = running.wait()
    judge_crash(outcome)
    found = read_outcomes(out)
    if len(found) < 6 or sum(each["status"] != "done" for each in found.values()) > 1:
        raise Caught("silent_wrong", f"{len(found)} trials after a worker's end: {outcome}")
    require_resumed(stage, out)


def stop_worker(stage: Stage) -> None:
    """A worker that stands still is ended after a stated time, and recorded as ended."""
    out = stage.folder / "out"
    terms = Terms(limit=90)
    arguments = ("run", stage.material / "study.yaml", "--out", out, f"--stall-after={STALLED * stage.patience:g}")
    running = stage.start(*arguments, terms=terms)
    _wait_for(lambda: bool(running.worker_pids()), running)
    time.sleep(0.2)
    pids = running.worker_pids()
    if pids:
        os.kill(pids[-1], signal.SIGSTOP)
    outcome = running.wait()
    if pids and outcome.code is None:
        _end_quietly(pids[-1])
    judge_crash(outcome)
    if outcome.code == 2:
        raise Caught("hang", f"no way to end what stands still: {outcome}")
    lost = [each["failure"] for each in read_outcomes(out).values() if each["status"] != "done"]
    if len(lost) > 1:
        raise Caught("silent_wrong", f"{len(lost)} trials lost by one that stood still: {lost[0]}")
    require_resumed(stage, out)


def run_out_of_memory(stage: Stage, mebibytes: int) -> None:
    """Trials that need more memory than there is say so, and spoil none of those that need less."""
    study = make_wide_study(stage)
    terms = Terms(limit=90, worker_room=mebibytes << 20)
    outcome = stage.command("run", study, "--out", "out", terms=terms)
    judge_crash(outcome)
    for name, each in read_outcomes(stage.folder / "out").items():
        if each["status"] == "failed" and not str(each["failure"]).startswith(("out_of_memory", "killed")):
            raise Caught("unclear", f"{mebibytes} MiB, {name}: {each['failure']}"[:400])
    alone = stage.command("run", study, "--out", "alone", "--set", "methods=[majority]", terms=terms)
    judge_crash(alone)
    needed = read_outcomes(stage.folder / "alone")
    for name, each in needed.items():
        other = read_outcomes(stage.folder / "out")[name]
        if each["status"] == "done" and other["status"] != "done":
            raise Caught("silent_wrong", f"{mebibytes} MiB, {name} is spoilt by its neighbour: {other['failure']}")


def limit_memory_held(stage: Stage) -> None:
    """`recommend --max-memory` goes by what a process held, not by the less that was allocated."""
    out = copy_finished(stage)
    edited = 0
    for path in (out / "trials").glob("*.json"):
        record = json.loads(path.read_text())
        if record["trial"]["method"] == "pattern":
            held = next((key for key in record["cost"] if "resident" in key), None)
            if held is None:
                raise Caught("silent_wrong", "records do not hold the memory that a process held")
            if record["cost"][held] is None or record["cost"][held] < 50 << 20:
                raise Caught("silent_wrong", f"a process is said to have held {record['cost'][held]} bytes")
            record["cost"] |= {held: 4 << 30, "peak_memory_bytes": 1 << 20}
            path.write_text(json.dumps(record))
            edited += 1
    outcome = stage.command("recommend", out, "--max-memory", "2GiB")
    judge_crash(outcome)
    lines = [line for line in outcome.output.splitlines() if "pattern" in line]
    if not edited or not any("not eligible" in line or "4" in line for line in lines):
        raise Caught("silent_wrong", f"what holds 4 GiB is eligible under 2: {outcome}")


def require_resumed(stage: Stage, out: Path) -> None:
    """`run` goes on in the folder to the undisturbed run's outcomes, and leaves nothing behind."""
    outcome = stage.command("run", stage.material / "study.yaml", "--out", out, terms=LONG)
    require_equal(require_done(out, outcome), read_outcomes(stage.material / "finished"))
    files = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    left = [name for name in files if ALWAYS.fullmatch(name) is None]
    if left:
        raise Caught("unclear", f"left behind: {left[:3]}")
    judge_crash(stage.command("watch", out))


def wait_for_workers(running: Running, seconds: float) -> None:
    """Workers of a command that is gone end by themselves within that time; Caught where they live on."""
    until = time.monotonic() + seconds
    while alive := [pid for pid in running.worker_pids() if _is_alive(pid)]:
        if time.monotonic() > until:
            _end_quietly(alive[0])
            raise Caught("hang", "a worker lives on without its command")
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def _end_quietly(pid: int) -> None:
    if _is_alive(pid):
        os.kill(pid, signal.SIGKILL)


def _wait_for(happened: object, running: Running) -> None:
    until = time.monotonic() + running.terms.limit
    assert callable(happened)
    while not happened() and running.process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)


@contextlib.contextmanager
def mounted(place: Path, options: str, flags: int = 0) -> Iterator[None]:
    """A small file system in memory at a new folder; the case is skipped where that is not allowed."""
    place.mkdir()
    mount(place, options, flags)
    try:
        yield
    finally:
        MOUNT.umount2(str(place).encode(), DETACH)


def mount(place: Path, options: str, flags: int = 0) -> None:
    """Mount, or change what is mounted; Caught as skipped where the system refuses."""
    if MOUNT.mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, options.encode()) != 0:
        raise Caught("skipped", f"no small disk can be mounted here: {os.strerror(ctypes.get_errno())}")


def full_cases(size: int) -> list[Case]:
    sizes = (4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 120, 140, 160, 200)
    return [Case(f"{kibibytes} KiB", fill_disk, {"kibibytes": kibibytes}) for kibibytes in sizes]


def writer_cases(size: int) -> list[Case]:
    shares = (0.0, 0.3, 0.6, 0.8, 0.9)
    return [
        Case(f"{what}, room for {share:.0%}", write_on_small_disk, {"what": what, "share": share})
        for share in shares
        for what in WRITERS
    ] + [Case(f"a packed study, {room} KiB more", pack_on_small_disk, {"kibibytes": room}) for room in (0, 4, 8, 16)]


def ray_cases(size: int) -> list[Case]:
    names = ("raylet", "ray::RuntimeEnvAgent", "ray::DashboardAgent")
    return [Case(name, end_ray, {"name": name}) for name in names]


def cache_cases(size: int) -> list[Case]:
    cases = [Case(how, spoil_cache, {"how": how}) for how in ("read-only", "full", "a file", "a link to itself")]
    places = ("a new folder", "a finished folder", "a report")
    return cases + [Case(f"{what} on a read-only disk", write_nowhere, {"what": what}) for what in places]


def gone_cases(size: int) -> list[Case]:
    return [
        Case(f"{delay:g} s after a record", delete_while_running, {"delay": delay}) for delay in (0, 0.05, 0.15, 0.3)
    ]


def signal_cases(size: int) -> list[Case]:
    rng = random.Random(9)
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGRTMIN + 3)
    cases = []
    for i in range(size):
        number = numbers[i % len(numbers)]
        name = f"signal {int(number)}"
        delay = round(rng.uniform(0.2, 3.0), 2)
        cases.append(Case(f"command, {name} after {delay:g} s", end_command, {"number": int(number), "delay": delay}))
        delay = round(rng.uniform(0.0, 1.2), 2)
        if number != signal.SIGINT:  # workers leave it to the command
            cases.append(Case(f"worker, {name} after {delay:g} s", end_worker, {"number": int(number), "delay": delay}))
    return cases


def memory_cases(size: int) -> list[Case]:
    rooms = (8, 32, 64, 100, 140, 200)
    return [Case(f"{room} MiB", run_out_of_memory, {"mebibytes": room}) for room in rooms]


KINDS = (
    Kind("full disks", 9, full_cases),
    Kind("results on a disk too small", 9, writer_cases),
    Kind("caches and folders that cannot be written", 9, cache_cases),
    Kind("output folders deleted while trials run", 12, gone_cases),
    Kind("signals to command and workers at random moments", 12, signal_cases, size=20),
    Kind("processes of Ray that end", 12, ray_cases, alone=True),
    Kind("a worker that stands still", 10, lambda size: [Case("stopped", stop_worker)]),
    Kind("memory that runs out", 7, memory_cases),
    Kind("memory held beside memory allocated", 3, lambda size: [Case("4 GiB under 2 GiB", limit_memory_held)]),
)
