"""A command that Ray ends at once has its end said by another process, and one that ends by itself has not."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, socket, sys
from fewtune.running.executors.last_words import LastWords

listening = socket.create_server(("127.0.0.1", 0))
said = LastWords(listening.getsockname(), "the node is gone")
how = sys.argv[1]
if how == "left":
    said.leave_unsaid()
if how != "with its node there":
    listening.close()
if how in ("at once", "with its node there"):
    if how == "with its node there":
        os.set_inheritable(listening.fileno(), True)
        os.posix_spawn("/bin/sleep", ["sleep", "8"], os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, 2)])
    os._exit(1)  # as Ray does: no handler runs
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("how", "told"),
    [("at once", "the node is gone\n"), ("by itself", ""), ("left", ""), ("with its node there", "")],
)
def test_the_words_stand_where_command_and_node_ended_without_one(how: str, told: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, told)
