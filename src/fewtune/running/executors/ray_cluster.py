"""Watches the Ray cluster that this process has joined: its own node, and the head.

Owns noticing that either ended. Ray ends a process whose node is gone, at the next word to it, and one whose head does
not come back within 60 seconds, by itself: with code 1, and nobody can say why any more. So it is asked before; where
Ray is faster, another process says it (`last_words`).
"""

from __future__ import annotations

import time
from typing import Any

from fewtune.errors import ExecutorError
from fewtune.running.executors.last_words import Address, LastWords, answers

HEAD_SECONDS = 40.0
"""Seconds that a head may be away, as while it starts anew; Ray itself waits 60."""
KEPT = "Finished trials are kept in the study's folder; the same command goes on from there."


class JoinedCluster:
    """The cluster that this process has joined, which must be there when this is made."""

    def __init__(self) -> None:
        import ray

        self._nodes: list[dict[str, Any]] = ray.nodes()
        self._heard = time.monotonic()
        self._node: Address | None = None
        self._head: Address | None = None
        self._last_words: LastWords | None = None
        if not ray.util.client.ray.is_connected():  # which has no node, and ends no process
            context = ray.get_runtime_context()
            own = next(node for node in self._nodes if node["NodeID"] == context.get_node_id())
            self._node = own["NodeManagerAddress"], own["NodeManagerPort"]
            host, _, port = context.gcs_address.rpartition(":")
            self._head = host.strip("[]"), int(port)
            self._last_words = LastWords(
                self._node, f"fewtune: {self._format_node(', and the command with it')} {KEPT}"
            )

    def list_nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive, as the head says; while it is away, as it said last."""
        import ray

        if self._head is None or answers(self._head):  # else the question would wait for it
            self._heard = time.monotonic()
            self._nodes = ray.nodes()
        elif time.monotonic() - self._heard > HEAD_SECONDS:
            raise ExecutorError(
                f"the head of the Ray cluster at {_word(self._head)} is gone: it has not answered for "
                f"{HEAD_SECONDS:.0f} seconds, as where it was killed or its machine went down. Start the cluster anew."
            )
        return [node for node in self._nodes if node["Alive"]]

    def check_node(self) -> None:
        """Raise ExecutorError where this process's own node has ended."""
        if self._node is not None and not answers(self._node):
            raise ExecutorError(self._format_node())

    def leave(self) -> None:
        """Let nobody speak for this process any more."""
        if self._last_words is not None:
            self._last_words.leave_unsaid()

    def _format_node(self, more: str = "") -> str:
        assert self._node is not None
        return (
            f"the Ray node that this command runs on has ended{more}: its raylet at {_word(self._node)} does not "
            "answer. It ends where it is killed, as by a system without memory, and with any of its agents."
        )


def _word(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
