"""Bulk loading of files: Bundles and NDJSON, plain or compressed; repeating a load changes nothing.

A transaction Bundle is one transaction, known again by the digest of its bytes. NDJSON resources are written in chunks by their ids.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange
from fhir_server.interactions.bundle import bundle_entries, transaction
from fhir_server.interactions.dispatch import read_in
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM

_SUFFIXES: Final = (".json", ".ndjson", ".jsonl", ".json.gz", ".json.bz2", ".ndjson.gz", ".ndjson.bz2")
_LINES: Final = 500
_MANY: Final = 1_000  # Resources after which the statistics of before are no guide.
_BASE: Final = "urn:load"


@dataclass(slots=True)
class Loaded:
    """What a load came to: resources written, resources of files that were loaded before, seconds, and every refusal with its file."""

    resources: int = 0
    repeated: int = 0
    files: int = 0
    seconds: float = 0.0
    refused: list[str] = field(default_factory=list)


Progress = Callable[[Path, Loaded], None]


def load_paths(engine: Engine, paths: Iterable[Path], progress: Progress) -> Loaded:
    """Loads files and whole folders, in the order of their names; `progress` is called after each file.

    A refusal does not stop the rest; a database that goes away does.
    """
    loaded = Loaded()
    start = time.monotonic()
    for path in files_of(paths):
        try:
            _load_file(engine, path, loaded)
        except Outcome as outcome:
            _refuse(loaded, path, outcome)
            if outcome.category == "unavailable":
                break
        except (OSError, EOFError) as error:
            loaded.refused.append(f"{path}: cannot be read: {error}")
        loaded.files += 1
        loaded.seconds = time.monotonic() - start
        progress(path, loaded)
    if loaded.resources >= _MANY:
        engine.store.gather_statistics()
        loaded.seconds = time.monotonic() - start
    return loaded


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that a load takes: those named, and in folders every file with a known suffix, by name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file() and found.name.endswith(_SUFFIXES))
        else:
            yield path


def _refuse(loaded: Loaded, path: Path, outcome: Outcome, where: str = "") -> None:
    for issue in outcome.issues:
        loaded.refused.append(f"{path}{where}: {issue.diagnostics}" + (f" ({', '.join(issue.expression)})" if issue.expression else ""))


def _load_file(engine: Engine, path: Path, loaded: Loaded) -> None:
    name = path.name
    opener = gzip.open if name.endswith(".gz") else bz2.open if name.endswith(".bz2") else open
    with opener(path, "rb") as stream:
        if ".ndjson" in name or name.endswith(".jsonl"):
            _load_lines(engine, path, stream, loaded)
        else:
            _load_document(engine, path, stream.read(), loaded)


def _load_document(engine: Engine, path: Path, data: bytes, loaded: Loaded) -> None:
    body = fhirjson.loads(data)
    if not isinstance(body, dict) or body.get("resourceType") != "Bundle" or body.get("type") not in ("transaction", "batch"):
        _load_resources(engine, path, [body], loaded, "")
        return
    kind, entries = bundle_entries(body)
    parent = Exchange("bundle", SYSTEM, _BASE)
    if kind == "transaction":
        _, _, repeated = transaction(engine, parent, entries, read_in, once=hashlib.sha256(data).digest())
        if repeated:
            loaded.repeated += len(entries)
        else:
            loaded.resources += len(entries)
        return
    _load_batch(engine, path, parent, entries, loaded, hashlib.sha256(data).digest())


def _load_batch(engine: Engine, path: Path, parent: Exchange, entries: list[dict[str, Any]], loaded: Loaded, digest: bytes) -> None:
    """All entries of a batch at once; where that is refused, one by one, so that each stands for itself."""
    try:
        _, _, repeated = transaction(engine, parent, entries, read_in, once=digest)
    except Outcome as whole:
        _pass_on_absence(whole)
        for number, entry in enumerate(entries):
            try:
                _, _, repeated = transaction(engine, parent, [entry], read_in, once=hashlib.sha256(digest + number.to_bytes(4, "big")).digest())
                loaded.repeated += repeated
                loaded.resources += not repeated
            except Outcome as outcome:
                _pass_on_absence(outcome)
                _refuse(loaded, path, outcome, f" entry {number}")
        return
    loaded.repeated += len(entries) * repeated
    loaded.resources += len(entries) * (not repeated)


def _load_lines(engine: Engine, path: Path, lines: Iterable[bytes], loaded: Loaded) -> None:
    chunk: list[Any] = []
    first = 1
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                chunk.append(fhirjson.loads(line))
            except Outcome as outcome:
                _refuse(loaded, path, outcome, f" line {number}")
        if len(chunk) >= _LINES:
            _load_resources(engine, path, chunk, loaded, f" lines {first} to {number}")
            chunk, first = [], number + 1
    if chunk:
        _load_resources(engine, path, chunk, loaded, f" from line {first}")


def _load_resources(engine: Engine, path: Path, resources: list[Any], loaded: Loaded, where: str) -> None:
    """Writes resources by their ids, all at once; where that is refused, one by one."""
    parent = Exchange("bundle", SYSTEM, _BASE)
    digest = hashlib.sha256(fhirjson.dumps(resources)).digest()
    try:
        entries = [_as_entry(resource) for resource in resources]
        _, _, repeated = transaction(engine, parent, entries, read_in, once=digest)
    except Outcome as outcome:
        _pass_on_absence(outcome)
        if len(resources) == 1:
            _refuse(loaded, path, outcome, where)
            return
        for resource in resources:
            _load_resources(engine, path, [resource], loaded, where)
        return
    loaded.repeated += len(entries) * repeated
    loaded.resources += len(entries) * (not repeated)


def _pass_on_absence(outcome: Outcome) -> None:
    """A database that is away refuses nothing: the load ends, and is repeated when it is back."""
    if outcome.category == "unavailable":
        raise outcome


def _as_entry(resource: Any) -> dict[str, Any]:
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise Outcome("malformed", "This is not a FHIR resource: it has no resourceType")
    name, identity = resource["resourceType"], resource.get("id")
    request = {"method": "PUT", "url": f"{name}/{identity}"} if identity is not None else {"method": "POST", "url": name}
    return {"resource": resource, "request": request}
