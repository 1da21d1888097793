"""One session with PostgreSQL: statements that come again are prepared, and go to libpq without a cursor between.

psycopg's own cursor costs 70 µs of Python for a prepared statement with two arrays, this 35; a booking has sixteen of them. psycopg also forgets what
was prepared whenever a transaction is rolled back, which is right for a program that changes its tables, and dear for one that refuses a request.
https://www.postgresql.org/docs/current/libpq-exec.html
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn, Protocol

import psycopg
from psycopg import errors
from psycopg.abc import Transformer as Reader
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

_OFTEN: Final = 4
"""The use of a statement at which it is prepared: one that comes once would cost a round trip more."""
_MOST: Final = 100
"""Prepared statements that a session keeps, and texts whose uses it counts."""
_GONE: Final = b"26000"
_OUTDATED: Final = b"0A000"
"""Among other things, that what a statement brings has other columns or types than when it was prepared."""
_DONE: Final = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})
_PLACE: Final = re.compile(r"%(?:(%)|(?:\((\w+)\))?([sb]))")
_FORMATS: Final = {"s": PyFormat.AUTO, "b": PyFormat.BINARY}


class Rows(Protocol):
    """What a statement has brought."""

    @property
    def rowcount(self) -> int:
        """Rows that were found or changed."""

    def fetchone(self) -> TupleRow | None:
        """The next row, None behind the last."""

    def fetchall(self) -> list[TupleRow]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[TupleRow]:
        """The rows that are left, one by one."""


class _Found:
    """The rows of a result, read when they are asked for."""

    __slots__ = ("_left", "_reader", "_result")

    def __init__(self, reader: Reader, result: PGresult) -> None:
        self._reader, self._result = reader, result
        self._left: Iterator[TupleRow] | None = None

    @property
    def rowcount(self) -> int:
        return self._result.command_tuples or 0

    def fetchone(self) -> TupleRow | None:
        return next(iter(self), None)

    def fetchall(self) -> list[TupleRow]:
        return self._load() if self._left is None else list(self._left)

    def __iter__(self) -> Iterator[TupleRow]:
        if self._left is None:
            self._left = iter(self._load())
        return self._left

    def _load(self) -> list[TupleRow]:
        self._left = iter(())
        self._reader.set_pgresult(self._result)
        return self._reader.load_rows(0, self._result.ntuples, tuple)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A text as libpq has it, with `$1`, `$2` … for its values; these by their names, if they have any, and in what form each is sent."""

    text: bytes
    names: tuple[str, ...]
    formats: list[PyFormat]


class Session(psycopg.Connection[TupleRow]):
    """A connection that prepares by itself; where it is not in autocommit mode it is psycopg's own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As the base has it; made by its `connect`."""
        super().__init__(*arguments, **named)
        self._uses: OrderedDict[str, int] = OrderedDict()
        self._names: OrderedDict[tuple[str, Sequence[int]], bytes] = OrderedDict()
        self._prepared_count = 0

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False) -> Rows:  # type: ignore[override]  # All that is used of a cursor.
        """What a statement brings. Takes and raises what psycopg does.

        Statements that have not come often, those made by `psycopg.sql`, and with `prepare=False` any, are left to psycopg.
        """
        if prepare is False or binary or type(query) is not str or not self.autocommit or not self._is_frequent(query):
            return super().execute(query, params, prepare=False, binary=binary)
        statement = _read(query) if params is not None else _Statement(query.encode(), (), [])
        values = [params[name] for name in statement.names] if statement.names else params or ()
        return self._run(query, statement, values)

    @contextmanager
    def transaction(self, begin: str = "BEGIN", **named: Any) -> Iterator[PGresult | None]:  # type: ignore[override]  # As with `execute`.
        """A transaction, or within one a savepoint; taken back if the block raises.

        `begin` may say more than that it begins; what the last of its commands brings is handed out, None for a savepoint.
        Raises InFailedSqlTransaction where the block has not told of a statement that failed, so that nothing of it can be kept.
        """
        if named or self.pgconn.transaction_status != TransactionStatus.IDLE:
            with super().transaction(**named):
                yield None
            return
        try:
            # Within, as its first command may have begun what the next one has failed in.
            yield self._command(begin)
        except BaseException:
            if not self.closed:
                self.pgconn.exec_(b"ROLLBACK")
            raise
        if self._command("COMMIT").command_status == b"ROLLBACK":
            raise errors.InFailedSqlTransaction("a statement of the transaction failed, and nothing of it is kept")

    def _is_frequent(self, query: str) -> bool:
        """Counts a use of a statement."""
        uses = self._uses[query] = self._uses.get(query, 0) + 1
        self._uses.move_to_end(query)
        if len(self._uses) > _MOST:
            self._uses.popitem(last=False)
        return uses >= _OFTEN

    def _run(self, query: str, statement: _Statement, params: Sequence[Any]) -> Rows:
        reader = Transformer.from_context(self)
        sent = reader.dump_sequence([_array(value) if type(value) is list else value for value in params], statement.formats)
        types = reader.types or ()
        # Two threads at once would each be given the other's rows.
        with self.lock:
            name = self._names.get((query, types))
            if name is None:
                name = self._prepare(query, statement.text, types)
            else:
                self._names.move_to_end((query, types))
            result = self.pgconn.exec_prepared(name, sent, reader.formats)  # type: ignore[arg-type]  # It takes None, for NULL.
        if result.status not in _DONE:
            if result.error_field(DiagnosticField.SQLSTATE) == _OUTDATED:
                self._names.pop((query, types), None)
            self._raise(result)
        return _Found(reader, result)

    def _prepare(self, query: str, text: bytes, types: Sequence[int]) -> bytes:
        if len(self._names) >= _MOST:
            _, oldest = self._names.popitem(last=False)
            self._command(f"DEALLOCATE {oldest.decode()}")
        self._prepared_count += 1
        name = f"s{self._prepared_count}".encode()
        result = self.pgconn.prepare(name, text, types)
        if result.status not in _DONE:
            self._raise(result)
        self._names[query, types] = name
        return name

    def _command(self, text: str) -> PGresult:
        result = self.pgconn.exec_(text.encode())
        if result.status not in _DONE:
            self._raise(result)
        return result

    def _raise(self, result: PGresult) -> NoReturn:
        if self.closed:
            # What the library says of a lost server has no code, and so no class.
            raise psycopg.OperationalError("the server closed the connection")
        if result.error_field(DiagnosticField.SQLSTATE) == _GONE:
            self._names.clear()
        raise errors.error_from_result(result, encoding="utf-8")


@lru_cache(maxsize=1024)
def _read(query: str) -> _Statement:
    """A statement with `%s`, or `%(name)s`, for its values."""
    numbers: dict[str, int] = {}
    formats: list[PyFormat] = []

    def place(found: re.Match[str]) -> str:
        percent, name, form = found.groups()
        if percent:
            return percent
        if name is None or name not in numbers:
            formats.append(_FORMATS[form])
            if name is not None:
                numbers[name] = len(formats)
        return f"${len(formats) if name is None else numbers[name]}"

    text = _PLACE.sub(place, query)
    return _Statement(text.encode(), tuple(numbers), formats)


def _array(values: list[Any]) -> Any:
    """A list as PostgreSQL reads an array of whatever type is wanted; the list itself where its members are not plain."""
    parts = []
    for value in values:
        kind = type(value)
        if kind is str:
            parts.append('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if "\\" in value or '"' in value else f'"{value}"')
        elif kind is int:
            parts.append(str(value))
        elif value is None:
            parts.append("NULL")
        elif kind is bool:
            parts.append("t" if value else "f")
        elif kind is datetime:
            parts.append(f'"{value.isoformat()}"')
        else:
            return values
    return "{" + ",".join(parts) + "}"
