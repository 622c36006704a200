"""Lives of a study's folder: commands that are disturbed until one ends, then what is left is judged.

Owns what a life is and how many there are. A life begins with an empty folder; every command in it goes on where the
last one stopped. It is well when the folder then equals an undisturbed run's, with nothing left behind or running.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.disturbances import (
    DISTURBANCES,
    STALLED,
    damage_file,
    leave_litter,
    limit_files,
    limit_memory,
    turn_clock,
)
from benchmarks.chaos.poison import find_read_poison, leave_poison
from benchmarks.chaos.processes import Command
from benchmarks.chaos.small_disk import SmallDisk, can_mount
from benchmarks.chaos.study import RACE, Outcome, find_differences, find_other_looks, read_outcomes, write_study

LONGEST = 120.0
"""Seconds that a command may take that nothing disturbs any more."""
LONGEST_PAUSE = 1.5
"""Seconds between two disturbances of a command, at most. Some commands are first left alone for as long as an
undisturbed run takes, at most: one that never is has started no trial yet."""
DAMAGED = re.compile(r"/(study\.yaml|looks\.json)(?:: damaged| is damaged|: `| was not written)")
"""What a command says of a file that it puts nothing in the place of."""
QUICK = 0.75
"""Share of the commands that are not."""
SMALL_DISKS = 0.2
"""Share of the lives whose folder lies on a disk of its own, which fills."""
MOST_COMMANDS = 60
"""Of a life; beyond it the study does not get on."""


@dataclass
class Tally:
    """What happened, and what was found."""

    happened: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    commands: int = 0
    found: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str | None) -> None:
        if what is not None:
            with self.lock:
                self.happened[what] += 1

    @property
    def kills(self) -> int:
        return sum(times for what, times in self.happened.items() if what.startswith("SIGKILL"))


@dataclass(frozen=True)
class Setting:
    """What lives of one study have in common."""

    folder: Path
    study: Path
    mounts: bool
    """Whether lives may have a small disk of their own."""
    undisturbed: Mapping[str, Outcome]
    seconds: float
    """That an undisturbed run takes."""
    is_race: bool


def prepare(folder: Path, draws: int, is_race: bool = False) -> Setting:
    """Write the study, or a race, and run it undisturbed; ends the campaign where that does not work."""
    folder.mkdir()
    study = write_study(folder, draws, RACE if is_race else "")
    leave_poison(folder / "model", folder)
    began = time.monotonic()
    command = Command(["run", study, "--out", folder / "undisturbed"], "undisturbed", folder)
    code = command.wait(10 * LONGEST)
    if code != 0:
        raise SystemExit(f"the study does not run undisturbed ({code}):\n{command.log.read_text()[-2000:]}")
    outcomes = read_outcomes(folder / "undisturbed")
    return Setting(folder, study, can_mount(folder), outcomes, time.monotonic() - began, is_race)


def run_campaign(settings: Sequence[Setting], minutes: float, lanes: int, seed: int) -> Tally:
    """Lives in several lanes at once, of each setting in turn, until the time is over."""
    tally, until = Tally(), time.monotonic() + 60 * minutes

    def live_on(lane: int) -> None:
        life = 0
        while time.monotonic() < until:
            rng = random.Random(f"{seed} {lane} {life}")
            _Life(settings[(lane + life) % len(settings)], tally, f"{lane}-{life}", rng).live(until)
            life += 1

    with ThreadPoolExecutor(lanes) as pool:
        for done in [pool.submit(live_on, lane) for lane in range(lanes)]:
            done.result()
    tally.found += [each for setting in settings for each in find_read_poison(setting.folder)]
    return tally


class _Life:
    """One folder from empty to done."""

    def __init__(self, setting: Setting, tally: Tally, name: str, rng: random.Random) -> None:
        self._setting, self._tally, self._name, self._rng = setting, tally, name, rng
        self._folder = setting.folder / f"life-{name}"
        self._out = self._folder / "out"
        self._said = 0
        """Characters that earlier commands said."""
        self._disk = SmallDisk(self._out) if setting.mounts and rng.random() < SMALL_DISKS else None

    def live(self, until: float) -> None:
        self._folder.mkdir()
        with self._disk or contextlib.nullcontext():
            self._live(until)
        shutil.rmtree(self._folder)

    def _live(self, until: float) -> None:
        for number in range(MOST_COMMANDS):
            calm = time.monotonic() > until or number > 20
            if number:
                self._between()
            if self._command(number, calm) and calm:
                break
            if self._command_ended_well and self._rng.random() < 0.5:
                break
        else:
            self._find(f"not done after {MOST_COMMANDS} commands: {self._read_log()[-600:]}")
        self._command(MOST_COMMANDS, calm=True)
        for difference in find_differences(self._out, dict(self._setting.undisturbed)):
            self._find(difference)
        if self._setting.is_race:
            for difference in find_other_looks(self._out, self._setting.folder / "undisturbed"):
                self._find(difference)
        with self._tally.lock:
            self._tally.lives += 1

    def _between(self) -> None:
        """Between two commands, now and then, somebody does something to the folder."""
        for what, chance in ((damage_file, 0.4), (leave_litter, 0.3), (turn_clock, 0.1)):
            if self._out.is_dir() and self._rng.random() < chance:
                self._tally.count(what(self._out, self._rng))

    def _command(self, number: int, calm: bool) -> bool:
        """One command, disturbed or not; whether it ended by itself with every trial done."""
        rng, limit = self._rng, None
        if not calm and rng.random() < 0.12:
            limit, what = self._choose_limit()
            self._tally.count(what)
        if self._disk is not None and not calm and rng.random() < 0.5:
            self._tally.count(self._disk.fill(rng))
        workers = str(rng.choice((1, 1, 2)))
        arguments = ["run", self._setting.study, "--out", self._out, "--workers", workers, "--stall-after", STALLED]
        arguments += ["--checkpoint-every", rng.choice(("10m", "0.1s"))]
        self._said = len(self._read_log())
        command = Command(list(map(str, arguments)), self._name, self._folder, limit)
        with self._tally.lock:
            self._tally.commands += 1
        began = time.monotonic()
        pause = LONGEST_PAUSE if rng.random() < QUICK else self._setting.seconds
        while not calm and command.runs and time.monotonic() - began < LONGEST:
            time.sleep(rng.uniform(0.05, pause))
            pause = LONGEST_PAUSE
            happened = None
            while happened is None and command.runs:  # a worker is killed where there is one
                disturb = rng.choices([each for each, _ in DISTURBANCES], [often for _, often in DISTURBANCES])[0]
                happened = disturb(command, rng)
            self._tally.count(happened)
        code = command.wait(LONGEST)
        if self._disk is not None:
            self._disk.make_room()
        survivors = command.find_survivors()
        if survivors:
            self._find(f"{len(survivors)} processes live on after their command")
        if code is None:
            self._find(f"a command hangs: {self._read_log()[self._said :][-600:]}")
        self._command_ended_well = code == 0
        text = self._read_log()[self._said :]
        if "Traceback" in text:
            self._find(f"a traceback: {text[-1500:]}")
        # Those that nothing can be put in the place of are left to the user, whose part is played here.
        named = re.findall(r"(?:Delete|delete) that file", text) and DAMAGED.search(text)
        if code == 2 and named:
            self._tally.count(f"told to delete {named[1]}")
            (self._out / named[1]).unlink(missing_ok=True)
        elif code == 2 and calm:
            self._find(f"refused: {text[-800:]}")
        return code == 0

    def _choose_limit(self) -> tuple[Callable[[], None], str]:
        if self._rng.random() < 0.6:
            kibibytes = self._rng.choice((1, 2, 4, 6, 8))
            return limit_files(kibibytes), "files that may not grow"
        return limit_memory(self._rng.choice((300, 600, 900))), "little memory"

    def _read_log(self) -> str:
        """What all commands said."""
        path = self._folder / "command.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def _find(self, what: str) -> None:
        with self._tally.lock:
            self._tally.found.append(f"life {self._name}: {what}")
