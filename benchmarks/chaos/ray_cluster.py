"""A Ray cluster of three nodes on this machine whose actors, nodes and drivers are killed while studies run on it.

Owns the cluster and what is killed of it. A study and a race go through it, and in the end their folders are compared
with what local processes made of them undisturbed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.campaign import LONGEST, Tally
from benchmarks.chaos.processes import LANE, Command
from benchmarks.chaos.study import RACE, find_differences, find_other_looks, read_outcomes, write_study

NODES = 3
CLUSTER = "Ray cluster"
DRIVER = "SIGKILL of the driver"
MOST_COMMANDS = 12


def run_on_ray(folder: Path, draws: int, minutes: float, seed: int) -> Tally:
    """A study of so many draws, then a race, each until it is done; what happened, and what was found."""
    from ray.cluster_utils import Cluster

    os.environ[LANE] = CLUSTER  # which the cluster's processes have from here
    tally, rng = Tally(), random.Random(seed)
    until = time.monotonic() + 60 * minutes
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
        for name, more in (("study", ""), ("race", RACE)):
            (folder / name).mkdir()
            study = write_study(folder / name, draws, f"{more}\nresources: {{memory: 300MiB}}")
            undisturbed = folder / name / "undisturbed"
            arguments = ["run", str(study), "--workers", "1", "--out", str(undisturbed)]
            if Command(arguments, name, folder / name).wait(10 * LONGEST) != 0:
                raise SystemExit(f"the {name} does not run undisturbed: see {folder / name / 'command.log'}")
            out = folder / name / "out"
            for number in range(MOST_COMMANDS):
                calm = time.monotonic() > until or number >= MOST_COMMANDS - 2
                if _run(cluster, nodes, study, out, tally, rng, calm):
                    break
            else:
                tally.found.append(f"{name}: not done after {MOST_COMMANDS} commands")
            differing = [*find_differences(out, read_outcomes(undisturbed)), *find_other_looks(out, undisturbed)]
            tally.found += [f"{name}: {each}" for each in differing]
            tally.lives += 1
    finally:
        cluster.shutdown()
    return tally


def _run(cluster: Any, nodes: list[Any], study: Path, out: Path, tally: Tally, rng: random.Random, calm: bool) -> bool:
    """One command on the cluster; whether it ended by itself with every trial done."""
    arguments = ["run", str(study), "--out", str(out), "--executor", "ray", "--address", cluster.address]
    command = Command(arguments, study.parent.name, study.parent)
    tally.commands += 1
    began = time.monotonic()
    while not calm and command.runs and time.monotonic() - began < LONGEST:
        time.sleep(rng.uniform(0.5, 5.0))
        # A driver is killed rarely, for then a command ends; but once it must be.
        often = (6, 2, 1 if tally.happened[DRIVER] else 4)
        what = rng.choices(("actor", "node", "driver"), often)[0]
        if what == "actor":
            tally.count(_kill_actor(rng))
        elif what == "driver" and command.send(signal.SIGKILL):
            tally.count(DRIVER)
        elif what == "node" and command.runs:
            cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
            tally.count("SIGKILL of a node, and another added")
            nodes.append(cluster.add_node(num_cpus=1))
    code = command.wait(3 * LONGEST)
    log = (study.parent / "command.log").read_text(errors="replace")
    if code is None:
        tally.found.append(f"a command hangs: {log[-600:]}")
    if "Traceback" in log:
        tally.found.append(f"a traceback: {log[-1500:]}")
    return code == 0


def _kill_actor(rng: random.Random) -> str | None:
    """Kill a process that runs trials, if there is one."""
    actors = []
    for process in psutil.process_iter():
        try:
            if "TrialActor" in " ".join(process.cmdline()) and process.environ().get(LANE) == CLUSTER:
                actors.append(process)
        except psutil.Error:
            continue
    if not actors:
        return None
    try:
        rng.choice(actors).kill()
    except psutil.Error:
        return None
    return "SIGKILL of an actor"
