"""The set of search parameters, as SearchParameter resources change it.

Every parameter of a resource type has a row of `search_param`. One that comes, or changes, gets a new row that is not `ready`: from its commit on all
writers make index rows under it, the reindexer makes those of what was there before (see `reindex`), and then it takes the place of the row that
answered so far, which is retired: its index rows go in the background, and at last the row itself.

Where others leave rows to one that is replaced (see `search.sharing`), they come anew with it, to have all of their rows themselves.

Each change raises `search_generation`, in the same transaction. A writer that works with an older set writes nothing, and tries again with the new
one; a search with an older set looks again first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcome import Issue, Outcome
from fhir_server.search import Registry
from fhir_server.search.definitions import definitions
from fhir_server.search.params.derived import derived
from fhir_server.search.registry import ADDED_FROM
from fhir_server.spec import r4
from fhir_server.store.database import Connection

from .dictionary import decoded, encoded, stated

MAX_ADDED: Final = 100
"""Parameters beside the specification's that a resource type may have: each makes each of its writes dearer."""

# Those of the specification are counted from 1 up.
_FREE: Final = f"""
SELECT n FROM generate_series(32767, {ADDED_FROM}, -1) AS x(n) WHERE NOT EXISTS (SELECT FROM search_param WHERE pid = n) ORDER BY n DESC LIMIT %s
"""
_AFFECTED: Final = """
SELECT type, code, pid, ready, definition, source FROM search_param WHERE retired IS NULL AND (type, split_part(code, ':', 1)) IN (
    SELECT type, split_part(code, ':', 1) FROM search_param WHERE source = ANY(%s::text[]) AND retired IS NULL
    UNION SELECT * FROM unnest(%s::text[], %s::text[]))
"""
"""A parameter and what is derived from it for modifiers, such as `code:text`, go together."""
_INSERT: Final = """
INSERT INTO search_param (pid, type, code, url, definition, source, ready)
SELECT x.*, false FROM unnest(%s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS x
"""
_MODIFIED: Final = """
SELECT p.pid, p.type, p.code, c.code, c.definition FROM search_param p JOIN search_param c ON c.type = p.type AND starts_with(p.code, c.code || ':')
WHERE p.ready AND c.pid = ANY(%s::smallint[]) AND c.retired IS NULL AND NOT c.ready
"""
"""What answers for modifiers of some parameters that are on their way, with these."""
_CROWDED: Final = """
SELECT type FROM search_param WHERE source IS NOT NULL AND retired IS NULL AND type = ANY(%s::text[]) GROUP BY type
HAVING count(DISTINCT split_part(code, ':', 1)) > %s LIMIT 1
"""

Key = tuple[str, str]
"""Resource type and code."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a parameter is to be: its definition as text, None for the specification's own, and the SearchParameter that says so."""

    url: str
    definition: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    pid: int
    ready: bool
    definition: str | None
    source: str | None


def follow(connection: Connection, registry: Registry, written: Sequence[tuple[str, Mapping[str, Any] | None]]) -> None:
    """Brings the set of parameters, `registry` so far, to what SearchParameters say now; `written` are their ids with the new content, None for none.

    Within the transaction that writes them, after they are written. Raises Outcome `conflict` where another SearchParameter defines the same code
    for the same type, `business-rule` where there are too many.
    """
    # Whoever else changes the set waits here until this transaction ends.
    connection.execute("SELECT FROM search_generation FOR UPDATE")
    wanted = _wanted(written)
    sources = [identity for identity, _ in written]
    taken = {(name, code) for name, code in wanted if ":" not in code}
    rows = _affected(connection, sources, wanted.keys(), taken)
    retired: list[int] = []
    adopted: dict[str | None, list[int]] = {}
    new: list[tuple[Key, _Wanted]] = []
    for key, there in rows.items():
        others = [row.source for row in there if row.source is not None and row.source not in sources]
        target = wanted.get(key)
        if others and target is not None:
            _refuse(key, others[0])
        if others:
            continue
        if target is None and (key[0], _plain(key[1])) not in taken and (own := stated(*key)) is not None:
            target = _Wanted(own.url, None, None)
        kept = _kept(there, target)
        # What one of another type has no modifier for answers as long as the one that it goes with.
        answers = [row for row in there if row.ready and (target is not None or (key[0], _plain(key[1])) in taken)]
        retired += [row.pid for row in there if row is not kept and row not in answers]
        for row in {*answers, *([kept] if kept is not None else [])}:
            adopted.setdefault(target.source if row is kept and target is not None else None, []).append(row.pid)
        if target is not None and kept is None:
            new.append((key, target))
    for source, pids in adopted.items():
        connection.execute("UPDATE search_param SET source = %s WHERE pid = ANY(%s) AND source IS DISTINCT FROM %s", (source, pids, source))
    if retired or new:
        retire(connection, retired)
        _insert(connection, new)
        _insert(connection, _leaning(connection, registry))
        raise_generation(connection)


def retire(connection: Connection, pids: Sequence[int]) -> None:
    """Takes parameters out of the set."""
    connection.execute(
        "UPDATE search_param SET ready = false, source = NULL, retired = clock_timestamp() WHERE pid = ANY(%s::smallint[])", (list(pids),)
    )


def raise_generation(connection: Connection) -> None:
    """Lets every process look at the set again."""
    connection.execute("UPDATE search_generation SET generation = generation + 1")


def promote(connection: Connection, pids: Sequence[int]) -> int:
    """Lets parameters answer in place of those that did so far; how many there were that had not been retired meanwhile. In a transaction."""
    connection.execute("SELECT FROM search_generation FOR UPDATE")
    coming = "SELECT type, code FROM search_param WHERE pid = ANY(%s::smallint[]) AND retired IS NULL AND NOT ready"
    before = connection.execute(f"SELECT pid FROM search_param WHERE ready AND (type, code) IN ({coming})", (list(pids),)).fetchall()
    retire(connection, [*(pid for (pid,) in before), *_going(connection, pids)])
    done = connection.execute(
        "UPDATE search_param SET ready = true WHERE pid = ANY(%s::smallint[]) AND retired IS NULL AND NOT ready", (list(pids),)
    ).rowcount
    raise_generation(connection)
    return done


def _wanted(written: Sequence[tuple[str, Mapping[str, Any] | None]]) -> dict[Key, _Wanted]:
    wanted: dict[Key, _Wanted] = {}
    for identity, resource in written:
        for name, defined in definitions(resource, r4()).items() if resource is not None else ():
            for param in (defined, *derived(defined)):
                key = name, param.code
                if key in wanted:
                    _refuse(key, str(wanted[key].source))
                wanted[key] = _Wanted(param.url, encoded(param), identity)
    return wanted


def _affected(connection: Connection, sources: Sequence[str], wanted: Iterable[Key], taken: Collection[Key]) -> dict[Key, list[_Row]]:
    """The rows of every parameter that may change, also of those that have none; `taken` are those wanted for themselves, not for a modifier."""
    rows: dict[Key, list[_Row]] = {key: [] for key in wanted}
    found = connection.execute(_AFFECTED, (list(sources), [name for name, _ in taken], [code for _, code in taken])).fetchall()
    for name, code, *columns in found:
        rows.setdefault((name, code), []).append(_Row(*columns))
    for name, code in {(name, _plain(code)) for name, code in rows} - set(taken):
        if (own := stated(name, code)) is not None:
            for param in derived(own):
                rows.setdefault((name, param.code), [])
    return rows


def _plain(code: str) -> str:
    """The parameter's own code where a modifier is part of it."""
    return code.partition(":")[0]


def _kept(rows: Sequence[_Row], target: _Wanted | None) -> _Row | None:
    """The row that is what is wanted already, the one that answers before one that is on its way."""
    if target is None:
        return None
    same = [row for row in rows if row.definition == target.definition]
    return max(same, key=lambda row: row.ready, default=None)


def _insert(connection: Connection, new: Sequence[tuple[Key, _Wanted]]) -> None:
    if not new:
        return
    free = [pid for (pid,) in connection.execute(_FREE, (len(new),)).fetchall()]
    if len(free) < len(new):
        raise Outcome("business-rule", "There are more search parameters than the server has numbers for; retire some that nobody needs")
    columns = [(pid, *key, want.url, want.definition, want.source) for pid, (key, want) in zip(free, new, strict=True)]
    connection.execute(_INSERT, tuple(map(list, zip(*columns, strict=True))))
    crowded = connection.execute(_CROWDED, ([name for (name, _), _ in new], MAX_ADDED)).fetchone()
    if crowded is not None:
        raise Outcome("business-rule", f"{crowded[0]} would have more than {MAX_ADDED} search parameters of your own; retire some that nobody needs")


def _leaning(connection: Connection, registry: Registry) -> list[tuple[Key, _Wanted]]:
    """Parameters that leave rows to one that is about to be replaced, or to go, and are not on their way themselves."""
    rows = connection.execute("SELECT pid, type, code FROM search_param WHERE NOT ready AND retired IS NULL").fetchall()
    coming = {(name, code) for _, name, code in rows}
    left = coming.union(_going(connection, [pid for pid, *_ in rows]).values())
    wanted = {(name, other) for name, code in left for other in registry.leaning(name, code)} - left
    return [(key, _Wanted(own.url, None, None)) for key in sorted(wanted) if (own := stated(*key)) is not None]


def _going(connection: Connection, pids: Sequence[int]) -> dict[int, Key]:
    """What answers for a modifier that no longer goes with its parameter once these are there, such as `code:text` where `code` becomes a string."""
    rows = connection.execute(_MODIFIED, (list(pids),)).fetchall()
    kept = {(name, each.code) for _, name, _, plain, text in rows if (own := decoded(text) if text else stated(name, plain)) for each in derived(own)}
    return {pid: (name, code) for pid, name, code, *_ in rows if (name, code) not in kept}


def _refuse(key: Key, source: str) -> None:
    text = f"'{key[1]}' of {key[0]} is defined by SearchParameter/{source} already; change that one, or retire it first"
    raise Outcome("conflict", issues=[Issue("error", "duplicate", text, ("SearchParameter.code",))])
