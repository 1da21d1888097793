"""Everything as files: one NDJSON file per resource type, all of one moment. https://hl7.org/fhir/R4/nd-json.html"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from fhir_server.search import SYSTEM, compile_count
from fhir_server.store import Snapshot, Store

_REPORT: Final = 500
_PARTIAL: Final = ".part"

Progress = Callable[[str, int, int], None]
"""Called with the file that is being written, how many resources are out, and how many there are."""


def export(store: Store, folder: Path, progress: Progress) -> dict[str, int]:
    """Writes the current version of every resource to `folder` (`Patient.ndjson`, …) and gives their number per type; deleted ones are left out.

    The files are readable by their owner alone, get their names once all of them are complete, and are what `load` reads. What breaks off
    leaves none. Memory does not grow with their number; the database keeps what it would otherwise tidy away until this returns.
    Raises OSError (FileExistsError for a folder with something in it), and Outcome `unavailable` where the database goes away.
    """
    was_there = folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.ENOTEMPTY, "it is not empty")
    try:
        present = _write(store, folder, progress)
    except BaseException:
        for path in folder.glob(f"*.ndjson{_PARTIAL}"):
            path.unlink(missing_ok=True)
        if not was_there:
            folder.rmdir()
        raise
    for name in present:
        path = folder / f"{name}.ndjson"
        path.with_name(path.name + _PARTIAL).rename(path)
    return present


def _write(store: Store, folder: Path, progress: Progress) -> dict[str, int]:
    with store.snapshot(SYSTEM) as db:
        counts = {name: _count(store, db, name) for name in store.registry.types}
        present = {name: count for name, count in sorted(counts.items()) if count}
        done, total = 0, sum(present.values())
        for name in present:
            with _create(folder / f"{name}.ndjson{_PARTIAL}") as stream:
                for body in db.export(name):
                    stream.write(body + b"\n")
                    done += 1
                    if done % _REPORT == 0 or done == total:
                        progress(f"{name}.ndjson", done, total)
    return present


def _count(store: Store, db: Snapshot, name: str) -> int:
    ((count,),) = db.select(compile_count(store.registry.parse(name, [], strict=True), store.registry, SYSTEM))
    return int(count)


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=1024 * 1024)
