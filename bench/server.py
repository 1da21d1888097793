"""A server of its own for a benchmark, and what it costs: CPU time and memory of every process of it, read from the operating system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PORT = 8765
MLLP_PORT = 8766
_SETTLED_BY = 30.0  # Seconds.
_IDLE = 0.1  # CPU-seconds in one second, up to which it is at rest.
_CLI = str(Path(sys.executable).parent / "fhir-server")


@dataclass(frozen=True)
class Server:
    """A running `fhir-server serve`."""

    process: psutil.Process
    data: Path
    token: str
    host: str = "127.0.0.1"
    port: int = PORT
    mllp_port: int = MLLP_PORT

    def cpu_seconds(self) -> float:
        """CPU time used so far by the program and its PostgreSQL together."""
        return sum(_cpu(process) for process in self._family())

    def api_memory(self) -> float:
        """Resident megabytes of the largest API process; PostgreSQL's shared buffers are not in it."""
        sizes = [0.0]
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "postgres" not in process.name():
                    sizes.append(process.memory_info().rss / 1e6)
        return max(sizes)

    def listener_memory(self) -> float:
        """Resident megabytes of the largest process that serves connections by MLLP, of which some have to be open."""
        sockets = psutil.net_connections("tcp")
        serving = {each.pid for each in sockets if each.laddr and each.laddr.port == self.mllp_port and each.status == psutil.CONN_ESTABLISHED}
        return max(process.memory_info().rss / 1e6 for process in self._family() if process.pid in serving)

    def _family(self) -> list[psutil.Process]:
        found = [self.process, *self.process.children(recursive=True)]
        known = {process.pid for process in found}
        # The embedded PostgreSQL may have been started by a process that has ended: its postmaster is known by the data directory.
        for process in psutil.process_iter(["name", "cmdline"]):
            if "postgres" in (process.info["name"] or "") and str(self.data) in " ".join(process.info["cmdline"] or ()) and process.pid not in known:
                found += [process, *process.children(recursive=True)]
        return found


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # Time of ended children counts too: PostgreSQL's sessions come and go.
    return float(times.user + times.system + times.children_user + times.children_system)


def _settle(server: Server) -> None:
    """Waits for what begins when the server is ready, as its worker does: it is not to be counted with what is measured."""
    until, used = time.monotonic() + _SETTLED_BY, server.cpu_seconds()
    while time.monotonic() < until:
        time.sleep(1)
        before, used = used, server.cpu_seconds()
        if used - before < _IDLE:
            return


@contextlib.contextmanager
def serving(data: Path | None = None, *, cores: Collection[int] = ()) -> Iterator[Server]:
    """A server on an empty data directory, or on one that is loaded, once it is at rest; stopped at the end.

    With `cores` it has no others, and we have the rest (Linux).
    """
    ours = os.sched_getaffinity(0) if cores else set()
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as temporary:
        directory = data or Path(temporary)
        command = [_CLI, "serve", "--port", str(PORT), "--mllp-port", str(MLLP_PORT), "--data", str(directory)]
        if cores:
            os.sched_setaffinity(0, cores)  # Which the server inherits.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                if cores:
                    os.sched_setaffinity(0, ours - set(cores) or ours)
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("ready "):
                        break
                else:
                    raise SystemExit("the server did not start; try it by hand: " + " ".join(command))
                token = subprocess.run(
                    [_CLI, "token", "--scope", "system/*.cruds", "--data", str(directory)], check=True, capture_output=True, text=True
                ).stdout.strip()
                server = Server(psutil.Process(process.pid), directory, token)
                _settle(server)
                yield server
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
                if cores:
                    os.sched_setaffinity(0, ours)
