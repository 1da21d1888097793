"""Messages that are processed at the same moment: one look at the record for all of them, and one transaction, as far as none minds another.

A message minds one that goes before it where one of them writes what the other has looked at or writes: the same patient, the same order. Then it
looks again once the other is committed, so that all comes out as if they had been processed one after the other. What is refused is given up and done
in halves, down to the message that is at fault, so that none spoils another. Figures: docs/decisions/0023-one-transaction-per-message.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fhir_server.outcome import Outcome
from fhir_server.search.params.token import folded
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit
from fhir_server.store.units import Unit

from .planning import identifiers
from .processing import Again, Found, Look, Result, Steps, Work, Write
from .refusals import FAILED, of_outcome

_Key = tuple[str, ...]
_log = logging.getLogger("fhir_server.hl7v2")


class Settled(Exception):  # noqa: N818 - an event, not a fault: the transaction is given up
    """Another connection or process has settled the same message in the meantime."""


@dataclass(slots=True, eq=False)
class Task:
    """A message on its way. `name` is its control id and sender; `result` is what came of it, None where others have settled it."""

    work: Work
    steps: Steps
    name: tuple[str, ...]
    result: Result | None = None
    is_kept: bool = False
    is_told: bool = False
    step: Look | Write | None = None
    touched: set[_Key] = field(default_factory=set)
    written: set[_Key] = field(default_factory=set)


Keep = Callable[[Connection, Sequence[tuple[Task, Result, Commit]]], None]
"""Stores what comes of messages, in the transaction that writes their resources. Raises Settled where others have settled one of them."""


def run(store: Store, tasks: Sequence[Task], keep: Keep, kept: Callable[[Task], None]) -> None:
    """Takes all tasks to their end, so that each has its result; calls `kept` with each that was kept as soon as it is done.

    They are written for grants that differ by who sends alone. Raises nothing but what no program catches, and what `kept` raises.
    """
    _Run(store, keep, kept).run(tasks)


class _Run:
    def __init__(self, store: Store, keep: Keep, kept: Callable[[Task], None]) -> None:
        self._store, self._keep, self._kept = store, keep, kept

    def run(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            _begin(task)
        while waiting := [task for task in tasks if task.step is not None]:
            if looking := [task for task in waiting if isinstance(task.step, Look)]:
                self._halved(looking, self._look)
            else:
                self._write_some(waiting)
        for task in tasks:
            self._tell(task)

    def _tell(self, task: Task) -> None:
        """Others of the group may take longer."""
        if task.is_kept and task.step is None and not task.is_told:
            task.is_told = True
            self._kept(task)

    def _halved(self, tasks: Sequence[Task], work: Callable[[Sequence[Task]], Sequence[Found]]) -> None:
        """Does what tasks wait for, all at once or, where that is refused, in halves; the last one is told why."""
        try:
            found = work(tasks)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault of one of them
            away = isinstance(error, Outcome) and error.category == "unavailable"
            if len(tasks) > 1 and not away:
                middle = len(tasks) // 2
                self._halved(tasks[:middle], work)
                self._halved(tasks[middle:], work)
                return
            for task in tasks:
                _refuse(task, error)
            return
        for task, each in zip(tasks, found, strict=True):
            _go_on(task, each)
            self._tell(task)

    def _look(self, tasks: Sequence[Task]) -> list[Found]:
        looks = [task.step for task in tasks if isinstance(task.step, Look)]
        references = list(dict.fromkeys(reference for look in looks for reference in look.references))
        found = []
        with self._store.latest(tasks[0].work.grant) as db:
            identified = db.identified([identifier for look in looks for identifier in look.identifiers])
            versions = {(version.type, version.id): version for version in (db.read_many(references) if references else ())}
        start = 0
        for task, look in zip(tasks, looks, strict=True):
            end = start + len(look.identifiers)
            own = [(place - start, version) for place, version in identified if start <= place < end]
            task.touched |= {_identifier(*identifier) for identifier in look.identifiers} | {*look.references}
            task.touched |= {(version.type, version.id) for _, version in own}
            found.append(Found(own, [versions[reference] for reference in dict.fromkeys(look.references) if reference in versions]))
            start = end
        return found

    def _write_some(self, waiting: Sequence[Task]) -> None:
        """Has those write that mind none before them, and the others look again."""
        chosen: list[Task] = []
        later: list[Task] = []
        touched: set[_Key] = set()
        written: set[_Key] = set()
        for task in waiting:
            task.written = _written(task)
            task.touched |= task.written
            minds = not (touched.isdisjoint(task.written) and written.isdisjoint(task.touched))
            (later if minds else chosen).append(task)
            touched |= task.touched
            written |= task.written
        self._halved(chosen, self._write)
        for task in later:
            _refuse(task, Again())

    def _write(self, tasks: Sequence[Task]) -> list[Found]:
        writes = [(task, task.step) for task in tasks if isinstance(task.step, Write)]

        def beside(connection: Connection, commits: Sequence[Commit]) -> None:
            made = [(task, step.result, commit) for (task, step), commit in zip(writes, commits, strict=True) if step.result is not None]
            if made:
                self._keep(connection, made)

        self._store.transact_all([_unit(task.work, step) for task, step in writes], beside)
        for task, step in writes:
            if step.result is not None:
                task.is_kept = True
        return [Found()] * len(tasks)


def _unit(work: Work, write: Write) -> Unit:
    operation = "merge" if write.merges else ""
    return Unit(write.ops, work.grant, work.peer.request_id or work.id, work.peer.address, write.provenance, write.seen, operation)


def _begin(task: Task) -> None:
    _step(task, lambda: next(task.steps))


def _go_on(task: Task, found: Found) -> None:
    _step(task, lambda: task.steps.send(found))


def _refuse(task: Task, error: Exception) -> None:
    """Raises an error where the task waits; it may begin anew then."""
    task.touched, task.written = set(), set()
    _step(task, lambda: task.steps.throw(error))


def _step(task: Task, go: Callable[[], Look | Write]) -> None:
    """Has a task do its next step, or come to its end."""
    task.step = None
    try:
        task.step = go()
    except StopIteration as end:
        task.result = end.value
    except Settled:
        task.result = None
    except Outcome as outcome:
        _log.warning("message %s is refused by the store: %s", task.work.id, outcome.category)
        task.result = of_outcome(outcome)
    except Exception as error:  # noqa: BLE001 - the sender is told, and the other messages go on
        _log.error("message %s could not be processed", task.work.id, exc_info=error)
        task.result = FAILED


def _written(task: Task) -> set[_Key]:
    """What a task is about to change, as others may have looked at it."""
    assert isinstance(task.step, Write)
    found: set[_Key] = {("message", *task.name)}
    for op in task.step.ops:
        name = op.resource["resourceType"]
        found.add((name, str(op.id)))
        found |= {_identifier(name, *pair) for pair in identifiers(op.resource)}
    return found


def _identifier(name: str, system: str, value: str) -> _Key:
    # As the search that is asked for it compares it.
    return (name, system, folded(value))
