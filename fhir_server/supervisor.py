"""Runs the HTTP application in several processes until it is told to stop: Granian's workers, each with its own threads and connections.

https://github.com/emmett-framework/granian
"""

from __future__ import annotations

import http.client
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any, Final

import structlog
from granian._granian import CallbackScheduler, RSGIWorker
from granian._signals import set_sync_signals
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import WORKERS_METHODS
from granian.server.mp import MPServer, WorkerProcess

from fhir_server import telemetry
from fhir_server.companions import Companion
from fhir_server.gateway import DirectLoop, Gateway
from fhir_server.listening import listen
from fhir_server.settings import NAMES, THREADS, Settings

STOP_SECONDS: Final = 8
"""What a stop leaves to requests in flight before their process is killed; the database needs the rest of the 15 seconds."""

_CONNECTIONS: Final = 1024  # Open connections of one process; most of them idle between two requests.
_HEADER_MS: Final = 30_000
_CRASHES: Final = 5  # So many losses of all workers within _CRASH_SECONDS are not bad luck.
_CRASH_SECONDS: Final = 60


def default_processes() -> int:
    """One process per core and four at the most: the database wants its share of the machine."""
    return min(4, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


def reserve(host: str, port: int) -> int:
    """The port to listen on; a free one for 0. Raises SetupError where it cannot be had.

    Asked beforehand, since Granian's workers share their port and would share it with a stranger too.
    """
    with listen(host, port) as probe:
        return int(probe.getsockname()[1])


def run(
    settings: Settings,
    host: str,
    port: int,
    processes: int,
    ready: Callable[[], None],
    companions: Sequence[Companion] = (),
    later: Sequence[Companion] = (),
) -> None:
    """Serves until SIGTERM or SIGINT, then lets what is in flight finish. Calls `ready` once, from a thread, when /health/ready answers 200.

    A worker that dies is replaced. `companions` run for as long, those that come `later` from when it is ready: nobody waits for them.
    Raises SystemExit with 1 where the first workers cannot start, or all keep dying.
    """
    # Spawned, not forked: a fork would carry the lock of the data directory and the threads' locks of this process along.
    multiprocessing.set_start_method("spawn", force=True)
    _metrics_directory(settings)
    everybody = (*companions, *later)

    def begun() -> None:
        ready()
        for companion in later:
            companion.start()

    for companion in companions:
        companion.start()
    try:
        _work(settings, host, port, processes, begun, everybody)
    finally:
        _together(companion.stop for companion in everybody)


def _work(settings: Settings, host: str, port: int, processes: int, ready: Callable[[], None], companions: Sequence[Companion]) -> None:
    start = Start(multiprocessing.Event(), multiprocessing.Event())
    threading.Thread(target=_announce, args=(host, port, start, ready), daemon=True).start()
    crashes: list[float] = []
    while True:
        server = _Server(
            "fhir_server.app",
            address=host,
            port=port,
            interface=Interfaces.WSGI,  # Which lets it have several threads.
            workers=processes,
            blocking_threads=THREADS,
            backpressure=_CONNECTIONS,
            loop=Loops.asyncio,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MS),
            websockets=False,
            log_level=LogLevels.error,  # Its warnings advise on numbers that are chosen here.
            log_dictconfig=telemetry.standard_library(settings.log_level),
            respawn_failed_workers=True,
            workers_kill_timeout=STOP_SECONDS,
        )
        server.companions = companions
        try:
            server.serve(spawn_target=work, target_loader=partial(load, settings, start), wrap_loader=False)
        except SystemExit:
            # Granian gives up when two workers die within seconds; one patient clerk's server goes on.
            now = time.monotonic()
            crashes = [moment for moment in crashes if now - moment < _CRASH_SECONDS] + [now]
            if server.interrupt_signal:
                return
            if len(crashes) >= _CRASHES:
                raise
            time.sleep(0.5)
        else:
            if start.failed.is_set():
                raise SystemExit(1)
            return


class _Server(MPServer):
    """Granian's, which tells the companions too when it is told to stop, so that all of them stop at the same time."""

    companions: Sequence[Companion] = ()

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        for companion in self.companions:
            companion.end()
        super().signal_handler_interrupt(*arguments, **options)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Start:
    """What workers and their parent know of the start: whether the server was ready once, and whether a worker could not start before that."""

    done: Event
    failed: Event


@WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
def work(
    number: int, gateway: Gateway, listener: Any, ipc: Any, _loop: Any, mode: RuntimeModes, runtime_threads: int, runtime_blocking: int, *rest: Any
) -> None:
    """A worker from its loaded gateway to the signal that ends it: as Granian's for WSGI, save that it hands requests over by RSGI.

    `rest` is what Granian gives its own workers: threads, their idle time, backpressure, kind of tasks, HTTP and its settings, …
    """
    threads, idle, backpressure, _tasks, http_mode, http1, http2, websockets, static, _log, tls, _scope, metrics = rest
    stop, stopped = set_sync_signals(), threading.Event()  # type: ignore[no-untyped-call]

    def leave() -> None:
        # What goes on for ever would be waited for.
        gateway.stop()
        stopped.set()

    stop.add_cb(leave)
    threading.Thread(target=gateway.watch, daemon=True).start()
    options = (threads, idle, backpressure, http_mode, http1, http2, websockets, static, *tls, metrics)
    worker = RSGIWorker(number, listener, ipc, runtime_threads, runtime_blocking, *options)
    loop = DirectLoop()
    scheduler = CallbackScheduler(loop, None, None, None, None)  # type: ignore[call-arg]
    scheduler._schedule_fn = gateway  # type: ignore[attr-defined]  # noqa: SLF001 - the way in that its own schedulers use
    getattr(worker, WORKERS_METHODS[mode][False])(scheduler, loop, stop)
    stopped.wait()
    # All is answered by now; what was read last is still to be written down.
    gateway.close()


def load(settings: Settings, start: Start) -> Gateway:
    """The application behind its gateway, in a worker. A worker ends with its parent, and keeps no secrets in its environment.

    Where the application cannot be made, the parent stops too if it is the first try; later it may be the database's absence, which passes.
    """
    telemetry.configure(settings.log_level)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    for name in NAMES:
        os.environ.pop(name, None)
    from fhir_server.app import create_app  # noqa: PLC0415 - the supervising process never needs it

    try:
        application = create_app(settings)
    except Exception as error:  # noqa: BLE001 - told in one line, then the worker ends
        structlog.get_logger().error("the application does not start", reason=str(error), exc_info=error)
        if start.done.is_set():
            time.sleep(1)
        else:
            start.failed.set()
            os.kill(os.getppid(), signal.SIGTERM)
        raise SystemExit(1) from None
    extensions = application.extensions
    return Gateway(application, settings.max_body, close=extensions["store"].close, stop=extensions["live"].close)


def _together(calls: Iterable[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _metrics_directory(settings: Settings) -> None:
    """Where the workers leave their counts for each other; prometheus-client reads its place from the environment."""
    folder = settings.data / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _announce(host: str, port: int, start: Start, ready: Callable[[], None]) -> None:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    while True:
        try:
            connection = http.client.HTTPConnection(address, port, timeout=5)
            connection.request("GET", "/health/ready")
            status = connection.getresponse().status
            connection.close()
        except (OSError, http.client.HTTPException):
            status = 0
        if status == http.HTTPStatus.OK:
            start.done.set()
            ready()
            return
        time.sleep(0.05)
