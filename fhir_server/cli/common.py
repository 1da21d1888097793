"""What several commands share: the data directory, the settings, and a database to work on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from fhir_server.settings import Settings, SetupError, environment

if TYPE_CHECKING:
    from rich.progress import Progress

    from fhir_server.store import Store

F = TypeVar("F", bound=Callable[..., Any])


class _Directory(click.Path):
    """A directory by its name. An empty one, as an unset variable of a script gives it, would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("a directory has a name", param, ctx)
        return super().convert(value, param, ctx)


def data_option(function: F) -> F:
    """Adds `--data`."""
    option = click.option(
        "--data",
        type=_Directory(file_okay=False, path_type=Path),
        default=Path("data"),
        show_default="./data",
        help="The data directory.",
    )
    return option(function)


UNFINISHED: Final = "restoring"
"""A file in a data directory that a backup is being brought back into."""


def refuse_unfinished(data: Path) -> None:
    """Raises SetupError for a data directory that a backup was not brought back into as a whole: its database may be there, and empty."""
    if (data / UNFINISHED).exists():
        raise SetupError(f"a backup is being restored into {data}, or was when that was cut off; if it was, remove {data} and restore it again")


def settings_of(data: Path, *, restoring: bool = False) -> Settings:
    """The settings of this process with the `.env` of the working directory.

    Raises SetupError, also as `refuse_unfinished`, unless it is for who is `restoring`.
    """
    if not restoring:
        refuse_unfinished(data)
    return Settings.read(environment(Path.cwd()), data.absolute())


def end_on_signals() -> None:
    """A signal before a service has its own handlers unwinds what was started, and is a clean end too."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def alone(data: Path, command: str) -> Settings:
    """The settings of a part of `serve` that is run by itself.

    From here on a signal is a clean end. Raises SetupError where no DATABASE_URL is set, or that database cannot be reached or is not migrated.
    """
    end_on_signals()
    settings = settings_of(data)
    if settings.database_url is None:
        raise SetupError(f"`{command}` needs DATABASE_URL; for everything on one machine use `fhir-server serve`, which runs it too")
    from fhir_server.store import postgres

    if not postgres.probe(settings.database_url).migrated:
        raise SetupError("the database is not at this program's schema; run `fhir-server migrate`")
    return settings


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """A store on the database of the settings, for one command. Raises Outcome."""
    from fhir_server.store import Store

    store = Store.of(settings, connections=2)
    try:
        yield store
    finally:
        store.close()


def fit(settings: Settings, addresses: Sequence[str] = (), *, change: bool = True) -> int:
    """Sees that the search rows fit the settings, with a bar and a line on stderr if that takes making them anew.

    The number of resources whose rows were made anew; 0 where they fitted. Raises SetupError, Outcome. Beside a `serve` on the same data directory,
    and without `change`, it refuses settings other than those that rows were made under.
    """
    with opened(settings) as store, progress_bar("resources") as bar:
        if not change or _is_served(settings):
            store.check_fit()
        task = bar.add_task("search rows", total=None)
        start = time.monotonic()

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        count = store.fit(addresses, show) or 0
    if count:
        tell_reindexed(count, time.monotonic() - start)
    return count


def tell_reindexed(count: int, seconds: float) -> None:
    """One line on stderr."""
    click.echo(f"search rows made anew for {count} resources in {seconds:.1f} s ({count / max(seconds, 0.001):.0f}/s)", err=True)


def install(store: Store) -> None:
    """Brings the server's own definitions into the database, where they are not there yet. Raises Outcome."""
    from fhir_server.operations import conformance

    conformance.install(store)


def _is_served(settings: Settings) -> bool:
    """Whether another process holds the data directory; its lock names its last holder, which may be this one."""
    from fhir_server.store import postgres

    if (settings.data / "lock").exists() and (settings.data / "lock").read_text(encoding="ascii").strip() != str(os.getpid()):
        try:
            with postgres.locked(settings.data):
                return False
        except SetupError:
            return True
    return False


def progress_bar(unit: str) -> Progress:
    """A bar on stderr, gone when its block is left; none without a terminal, where nobody watches and stderr is for faults."""
    import rich.console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn(), TextColumn("{task.description}"))
    console = rich.console.Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def with_database(settings: Settings, *, migrated: bool = True) -> Iterator[Settings]:
    """The settings with the URL of a database that runs: DATABASE_URL's, that of the `serve` at work on the data directory, or one of its own.

    It is brought to the newest schema unless told otherwise. Raises SetupError.
    """
    if settings.database_url is None:
        from fhir_server.store import postgres

        with postgres.connect_to_running(settings.data) as url, with_database(replace(settings, database_url=url), migrated=migrated) as found:
            yield found
        return
    if migrated:
        from fhir_server.store import migrate

        migrate(settings.database_url)
    yield settings
