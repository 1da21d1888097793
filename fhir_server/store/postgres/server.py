"""The embedded PostgreSQL: one cluster under the data directory, started and stopped with the process that holds the directory's lock.

Clients connect through a Unix socket, so there is no open port; `cluster` has the files.

https://www.postgresql.org/docs/18/server-start.html, https://www.postgresql.org/docs/18/server-shutdown.html
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil

from fhir_server.settings import SetupError, make_data_directory

from .cluster import DATABASE, access_files, account_of, initialise, last_fault, last_line, program, refuse_other_version, started_by, unreachable

_PORT: Final = 5432  # Only part of the socket's name.
_START_SECONDS: Final = 600  # Replaying 4 GB of log after a crash takes a minute on a slow disk.
_WAIT_SECONDS: Final = 30  # For the process that holds the directory to have its server up.
_STOP_SECONDS: Final = 5  # Of the 15 that a stop of everything may take.
_SHORT: Final = "/tmp"  # noqa: S108 - a new directory in it, with a name that cannot be guessed
_SOCKET_PATH: Final = 100  # Characters: sun_path has 108 on Linux, 104 on macOS.
_GUARD_SECONDS: Final = 0.5
_WRITTEN: Final = "ready"

_log = logging.getLogger("fhir_server.postgres")

_CONFIG: Final[dict[str, str]] = {
    # A clinic's box: 4 GB of memory or more, a solid-state disk, few connections, everything durable.
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    # Whoever commits where a new file of 16 MB begins would wait 55 ms for its zeros; what is written into a hole is as durable.
    "wal_init_zero": "off",
    # A checkpoint makes each page's next change write the whole page. Compressed by pglz, the only way that the wheel has, these held up writers for
    # 0.4 to 0.9 s behind each checkpoint where they do not for 0.1 s as they are. Replaying a quarter of an hour takes seconds.
    "wal_compression": "off",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    # What a bulk load over HTTP brought in the planner should know soon, and counts should visit index rows only.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    # With the 2 ms that it has by itself a worker takes half a core for seconds, and p99 of 200 messages a second is three times as long.
    "autovacuum_vacuum_cost_delay": "10ms",
    "jit": "off",  # Compiling costs more than any statement of ours takes.
    "max_parallel_workers_per_gather": "0",  # A page of results gains nothing from workers, and containers have 64 MB of /dev/shm.
    "timezone": "UTC",
    "listen_addresses": "",
    "log_timezone": "UTC",
    # One log per weekday, each written over after a week. Errors of statements stay out of it: their texts repeat patients' data.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Holds the data directory for this process alone; freed when the process ends in whatever way.

    Raises SetupError at once where another process holds it.
    """
    make_data_directory(data)
    try:
        descriptor = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise SetupError(f"{data / 'lock'} cannot be opened ({error.strerror}); mend its rights or name another directory with --data") from None
    try:
        # Another try after a moment: who only asks whether the directory is held has a shared lock for as long as that takes.
        if not _wait_for(lambda: _lock(descriptor, fcntl.LOCK_EX), 0.1):
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise SetupError(
                f"the data directory {data} is in use by process {holder}; stop that one, or name another directory with --data"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def embedded(data: Path, config: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the cluster in `data`, which runs until the block is left; it is made if there is none. `config` goes over the defaults.

    A server that ends by itself is started again. What a killed predecessor left running is stopped first.
    Making a cluster takes about 0.5 s, starting one 0.2 s, more after a crash.
    Raises SetupError where the directory is in use or the server cannot run.
    """
    with locked(data):
        cluster = data.absolute() / "postgres"
        account = account_of(cluster)
        refuse_other_version(cluster)
        _stop_leftover(cluster)
        if not (cluster / "PG_VERSION").exists():
            initialise(cluster, account)
        with _socket_directory(cluster, account) as sockets:
            options = _CONFIG | access_files(data.absolute()) | {"unix_socket_directories": str(sockets)} | dict(config or {})
            with _kept_running(cluster, lambda leaving: _start(cluster, account, options, leaving)):
                url = _url(sockets)
                _make_database(url)
                yield url


@contextmanager
def _kept_running(cluster: Path, start: Callable[[threading.Event], subprocess.Popen[bytes]]) -> Iterator[None]:
    """Runs the server until the block is left, and starts it again when it ends by itself: killed for want of memory, or by a full disk.

    One thread starts and stops it. No signal is handled there, so that none comes between a server's start and who would stop it; and on Linux
    the server ends with the thread that is its parent. Raises what the first start raises.
    """
    leaving = threading.Event()
    started: Future[None] = Future()

    def guard() -> None:
        try:
            server = start(leaving)
        except Exception as error:  # noqa: BLE001 - raised where the start is waited for
            started.set_exception(error)
            return
        started.set_result(None)
        while not leaving.wait(_GUARD_SECONDS):
            if server.poll() is not None:
                try:
                    _stop_leftover(cluster)
                    server = start(leaving)
                    _log.warning("PostgreSQL had ended and was started again")
                except (SetupError, OSError) as error:
                    _log.error("PostgreSQL has ended and does not start", extra={"reason": str(error)})
        _stop(server)

    thread = threading.Thread(target=guard, name="postgres", daemon=True)
    try:
        thread.start()
        started.result()
        yield
    finally:
        leaving.set()
        if thread.ident is not None:
            thread.join()


@contextmanager
def connect_to_running(data: Path) -> Iterator[str]:
    """The URL of the server that another process runs on `data`; where none does, one of its own for as long as the block lasts.

    Raises SetupError where the directory is held by a process without an embedded server (it has DATABASE_URL), or the server cannot run.
    """
    if _is_held(data):
        cluster = data.absolute() / "postgres"
        deadline = time.monotonic() + _WAIT_SECONDS
        while (running := _running(cluster)) is None or running[2] != _WRITTEN:
            if not _is_held(data):
                break
            if time.monotonic() > deadline:
                raise SetupError(f"the process that holds {data} runs no database there; set DATABASE_URL as it has it")
            time.sleep(0.05)
        else:
            yield _url(running[1])
            return
    with embedded(data) as url:
        yield url


@dataclass(frozen=True, slots=True)
class State:
    """What `probe` finds: the major version, the server's clock in seconds since 1970, its size, and whether the schema is the newest."""

    version: int
    clock: float
    megabytes: int
    migrated: bool


def probe(url: str) -> State:
    """The state of a database. Raises SetupError where it cannot be reached within five seconds."""
    import psycopg  # noqa: PLC0415 - see _make_database

    from fhir_server.store.index.dictionary import schema_version  # noqa: PLC0415
    from fhir_server.store.session import Session  # noqa: PLC0415

    from .migrate import newest_revision  # noqa: PLC0415

    statement = (
        "SELECT current_setting('server_version_num')::int / 10000, extract(epoch FROM clock_timestamp()), pg_database_size(current_database())"
    )
    try:
        with Session.connect(url, autocommit=True, connect_timeout=5) as connection:
            version, clock, size = connection.execute(statement).fetchone() or (0, 0, 0)
            return State(version, float(clock), size // 1024**2, schema_version(connection) == newest_revision())
    except psycopg.Error as error:
        raise unreachable(error) from None


def _url(sockets: Path) -> str:
    return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(sockets), safe='')}&port={_PORT}"


def _is_held(data: Path) -> bool:
    try:
        descriptor = os.open(data / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _socket_directory(cluster: Path, account: pwd.struct_passwd) -> Iterator[Path]:
    if len(os.fsencode(cluster)) + len(f"/.s.PGSQL.{_PORT}.lock") <= _SOCKET_PATH:
        yield cluster
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="fhir-", dir=_SHORT, ignore_cleanup_errors=True)
    except OSError as error:
        said = f"the path of {cluster.parent} is too long for the database's socket, and {_SHORT} cannot hold it ({error.strerror})"
        raise SetupError(f"{said}; name a shorter one with --data") from None
    with made as name:
        if not os.geteuid():
            os.chown(name, account.pw_uid, account.pw_gid)
        yield Path(name)


def _running(cluster: Path) -> tuple[int, Path, str] | None:
    """Process id, socket directory and state of the server that postmaster.pid names, if that server lives."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    if not psutil.pid_exists(pid):
        return None
    return (pid, Path(lines[4]), lines[7].strip()) if len(lines) > 7 else (pid, cluster, "starting")  # noqa: PLR2004 - its eight lines


def _stop_leftover(cluster: Path) -> None:
    running = _running(cluster)
    if running is not None and _is_ours(running[0], cluster):
        for number in (signal.SIGINT, signal.SIGQUIT):
            with suppress(ProcessLookupError):  # It ends by itself too, when the one that started it is killed.
                os.kill(running[0], number)
            if _wait_for(lambda: _running(cluster) is None, _STOP_SECONDS):
                break
        else:
            raise SetupError(f"a PostgreSQL server left over on {cluster} (process {running[0]}) does not stop; end it by hand")
    elif running is not None:
        # The number of a killed server has gone to another program, or nobody has collected it; PostgreSQL would take it for a live one.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    (cluster / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)  # Names a process too, and only PostgreSQL's own clean stop removes it.


def _is_ours(pid: int, cluster: Path) -> bool:
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "postgres" in command[0] and str(cluster) in command if command else False


def _start(cluster: Path, account: pwd.struct_passwd, options: Mapping[str, str], leaving: threading.Event) -> subprocess.Popen[bytes]:
    """The server's process, once it takes connections, or earlier when nobody wants it any more. Raises SetupError."""
    command = [str(program("postgres")), "-D", str(cluster), *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))]
    log = cluster.parent / "postgres.log"
    give_up = time.monotonic() + 10
    while True:
        with log.open("wb") as stream:
            server = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # An interrupt at the terminal is for us; the database stops last.
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - one call into libc
                **started_by(account),
            )
        _wait_for(lambda: leaving.is_set() or server.poll() is not None or _is_ready(cluster, server.pid), _START_SECONDS)  # noqa: B023 - called at once
        if server.poll() is None:
            return server
        text = log.read_text(encoding="utf-8", errors="replace")
        if "still in use" not in text or time.monotonic() > give_up or leaving.is_set():
            # Once its own log is open the rest is told there.
            why = (last_fault(cluster) if "redirecting log output" in text else None) or last_line(text)
            raise SetupError(f"PostgreSQL did not start: {why} ({log} and {cluster / 'log'} say more)")
        time.sleep(0.2)  # The last processes of a killed predecessor are still leaving.


def _is_ready(cluster: Path, pid: int) -> bool:
    running = _running(cluster)
    return running is not None and running[0] == pid and running[2] == _WRITTEN


def _end_with_parent() -> Callable[[], None] | None:
    """On Linux the server is told to stop when this process is killed. Elsewhere the next start does it."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    number = int(signal.SIGINT)

    def ask() -> None:
        libc.prctl(1, number)  # PR_SET_PDEATHSIG

    return ask


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Fast shutdown: clients are disconnected, everything is written; then without the writing, which the next start makes up for."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is None:
            server.send_signal(number)
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _make_database(url: str) -> None:
    import psycopg  # noqa: PLC0415 - the commands that need no database start faster without it

    try:
        with psycopg.connect(url.replace(f"@/{DATABASE}?", "@/postgres?"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg.Error as error:
        raise SetupError(f"the embedded PostgreSQL refuses connections: {last_line(str(error))}") from None


def _wait_for(reached: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
