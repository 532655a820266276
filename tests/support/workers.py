"""Runs a script as the workers of a cluster, processes on 127.0.0.1."""

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.fresh_process import run_fresh


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody else is given, but that servers may listen on.

    A socket that is bound and does not listen keeps others from being given its port;
    one that asks for this very port, with `SO_REUSEADDR` as servers do, still gets it.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("", 0))
        yield [each.getsockname()[1] for each in sockets]


def cluster_of(ports: list[int]) -> list[str]:
    """The `TF_CONFIG` of each worker of a cluster on this machine."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    tasks = [{"type": "worker", "index": place} for place in range(len(ports))]
    return [
        json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks
    ]


def run_workers(script: str, *arguments: Any, count: int = 2) -> list[Any]:
    """Returns the JSON on the last line that each worker printed."""
    with reserved_ports(count) as ports, ThreadPoolExecutor(count) as pool:
        running = [
            pool.submit(run_fresh, script, *arguments, TF_CONFIG=config)
            for config in cluster_of(ports)
        ]
        return [each.result() for each in running]
