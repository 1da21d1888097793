"""A closed loop of clients: each keeps one connection and sends its next request when the answer to the last is there."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .server import Server

CLIENTS = 8


class Client:
    """One connection with a token."""

    def __init__(self, server: Server) -> None:
        """Connects."""
        self._http = http.client.HTTPConnection(server.host, server.port, timeout=120)
        self._headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/fhir+json"}

    def send(self, method: str, path: str, body: bytes | None = None, expect: Iterable[int] = (200, 201, 204)) -> bytes:
        """The body of the answer. Raises RuntimeError for any status that is not expected: a benchmark of errors says nothing."""
        self._http.request(method, f"/fhir/{path}", body, self._headers)
        response = self._http.getresponse()
        data = response.read()
        if response.status not in expect:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
        return data

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer."""
        return json.loads(self.send(method, path, json.dumps(body).encode() if body is not None else None) or b"null")


@dataclass
class Figures:
    """What a run cost. Latencies in milliseconds as the clients saw them, CPU in milliseconds per request over all processes of the server."""

    name: str
    requests: int
    seconds: float
    cpu_ms: float
    latencies: list[float] = field(repr=False)
    note: str = ""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """Latency that the given share of the requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run(server: Server, name: str, work: Callable[[Client, int], int], *, loops: int, clients: int = CLIENTS, warm_up: int = 20) -> Figures:
    """Runs `work(client, number)`, which answers how many requests it made, `loops` times spread over the clients, after a warm-up."""
    numbers = iter(range(-warm_up * clients, loops))
    lock = threading.Lock()
    latencies: list[float] = []
    failures: list[BaseException] = []
    requests = 0
    marks: dict[str, float] = {}

    def loop() -> None:
        nonlocal requests
        client = Client(server)
        while not failures:
            with lock:
                number = next(numbers, None)
                if number == 0 or (number is not None and number > 0 and "cpu" not in marks):
                    marks["cpu"], marks["start"] = server.cpu_seconds(), time.perf_counter()
            if number is None:
                return
            begin = time.perf_counter()
            try:
                made = work(client, number)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                failures.append(error)
                return
            if number >= 0:
                spent = (time.perf_counter() - begin) * 1000 / made
                with lock:
                    requests += made
                    latencies.append(spent)

    threads = [threading.Thread(target=loop) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    seconds = time.perf_counter() - marks["start"]
    return Figures(name, requests, seconds, (server.cpu_seconds() - marks["cpu"]) * 1000 / requests, latencies)
