"""Whether the Ray cluster that this process has joined goes on: its own node, and the head.

Owns noticing that either ended. Ray ends a process whose node is gone, at the next word to it, and one whose head does
not come back within 60 seconds, by itself: with code 1, and nobody can say why any more. So it is asked before.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from fewtune.errors import ExecutorError

HEAD_SECONDS = 40.0
"""Seconds that a head may be away, as while it starts anew; Ray itself waits 60."""
CONNECT_SECONDS = 2.0

Address = tuple[str, int]


class JoinedCluster:
    """The cluster that this process has joined, which must be there when this is made."""

    def __init__(self) -> None:
        import ray

        self._nodes: list[dict[str, Any]] = ray.nodes()
        self._heard = time.monotonic()
        self._node: Address | None = None
        self._head: Address | None = None
        if not ray.util.client.ray.is_connected():  # which has no node, and ends no process
            context = ray.get_runtime_context()
            own = next(node for node in self._nodes if node["NodeID"] == context.get_node_id())
            self._node = own["NodeManagerAddress"], own["NodeManagerPort"]
            host, _, port = context.gcs_address.rpartition(":")
            self._head = host.strip("[]"), int(port)

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
            raise ExecutorError(
                f"the Ray node that this command runs on has ended: its raylet at {_word(self._node)} does not answer. "
                "It ends where it is killed, as by a system without memory, and perhaps with one of its agents."
            )


def answers(address: Address) -> bool:
    """Whether a process listens there."""
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _word(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
