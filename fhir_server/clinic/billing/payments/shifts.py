"""Shifts at a drawer with cash: opened with a float, and closed when it is counted, with what should be in it by what was paid in between.

A shift is at a place (a Location), and one person's who has opened it. A payment belongs to the shift of the place that is named, else to that of
whoever takes it: it holds the shift's row as a reader until its commit, and closing takes the row whole, so that nothing comes into a drawer that was
counted. What is counted stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from fhir_server.clinic.acting import Act, carry_out, visible
from fhir_server.clinic.billing import approvals
from fhir_server.clinic.billing.invoices import require_desk
from fhir_server.clinic.billing.money import ZERO, digits, rounded
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op

from .rules import rules_of

_COLUMNS: Final = "id, location, opened, opened_by, name, currency, float, closed, closed_by, counted, reason, report"
_HELD: Final = "SELECT id, currency FROM cash_shift WHERE location = %s AND closed IS NULL FOR SHARE"
_MINE: Final = "SELECT id, currency FROM cash_shift WHERE opened_by = %s AND closed IS NULL FOR SHARE"
_OPENED: Final = "SELECT name FROM cash_shift WHERE (location = %s OR opened_by = %s) AND closed IS NULL"
_OPEN: Final = "INSERT INTO cash_shift (id, location, opened, opened_by, name, currency, float) VALUES (%s, %s, %s, %s, %s, %s, %s)"
_TO_CLOSE: Final = f"SELECT {_COLUMNS} FROM cash_shift WHERE location = %s AND closed IS NULL FOR UPDATE"  # noqa: S608 - our own columns
_CLOSE: Final = "UPDATE cash_shift SET closed = %s, closed_by = %s, counted = %s, reason = %s, report = %s WHERE id = %s"
_AT: Final = f"""
SELECT {_COLUMNS} FROM cash_shift WHERE location = %s AND (%s::text IS NULL OR id = %s)
ORDER BY closed IS NULL DESC, opened DESC, id DESC LIMIT 1
"""  # noqa: S608 - our own columns
_ONE: Final = f"SELECT {_COLUMNS} FROM cash_shift WHERE id = %s"  # noqa: S608 - our own columns
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM cash_shift WHERE (%s::text IS NULL OR location = %s) AND (%s::timestamptz IS NULL OR (opened, id) < (%s, %s))
ORDER BY opened DESC, id DESC LIMIT %s
"""  # noqa: S608 - our own columns
_TOTALS: Final = """
SELECT method, name, currency, count(*), coalesce(sum(amount) FILTER (WHERE amount > 0), 0), coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)
FROM payment WHERE shift = %s GROUP BY method, name, currency ORDER BY method, name, currency
"""


class Total(msgspec.Struct, frozen=True):
    """What somebody took in and gave out by one method."""

    method: str
    user: str
    currency: str
    payments: int
    taken: Decimal
    given: Decimal


class Report(msgspec.Struct, frozen=True):
    """What should be in the drawer: `expected` is the float and the cash that came, without the cash that went."""

    expected: Decimal
    totals: tuple[Total, ...] = ()


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift from its opening on; `counted` and what follows it once it is closed."""

    id: str
    location: str
    opened: datetime
    opened_by: str
    currency: str
    float: Decimal
    report: Report
    closed: datetime | None = None
    closed_by: str | None = None
    counted: Decimal | None = None
    reason: str | None = None

    @property
    def cash_in(self) -> Decimal:
        """Cash that was taken."""
        return sum((each.taken for each in self._cash), rounded(ZERO, self.currency))

    @property
    def cash_out(self) -> Decimal:
        """Cash that was given back."""
        return sum((each.given for each in self._cash), rounded(ZERO, self.currency))

    @property
    def _cash(self) -> list[Total]:
        return [each for each in self.report.totals if each.method == "cash"]

    @property
    def difference(self) -> Decimal | None:
        """What is there too much, negative for too little; None for one that is open."""
        return None if self.counted is None else self.counted - self.report.expected


def open_shift(store: Store, act: Act, location: str, amount: Decimal, currency: str, tell: Callable[[Shift], None]) -> Commit:
    """Opens a shift at a Location, by id, with an amount of cash in its drawer. No resource is written; `tell` is told of the shift.

    Raises Outcome `forbidden` for anybody but the desk, `not-found`, `gone`, `parameter` for an amount that cannot be, `conflict` where it is open
    already, or the caller has another one open.
    """
    require_desk(act)
    if amount < 0 or amount != rounded(amount, currency):
        raise Outcome("parameter", f"A float in {currency} is 0 or more, and has {digits(currency)} digits", code="value")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        visible(db, act, "Location", location)
        who = approvals.who(act)
        if (name := scalar(connection, _OPENED, location, who)) is not None:
            raise Outcome("conflict", f"A shift is open already, of {name}: close it first")
        # Of two who open one at once the second is told by the constraint, and looks again.
        made = Shift(new_id(), location, store.clock(), act.grant.actor, currency, amount, Report(amount))
        connection.execute(_OPEN, (made.id, location, made.opened, who, made.opened_by, currency, amount))
        tell(made)
        return ()

    return carry_out(store, act, prepare)


def close_shift(store: Store, act: Act, location: str, counted: Decimal, currency: str, tell: Callable[[Shift], None]) -> Commit:
    """Closes the shift at a Location, by id, with what was counted in its drawer; a difference needs the act's reason. It stays as it is then.

    `tell` is told of the shift.
    Raises Outcome `forbidden`, `not-found` where none is open, `parameter` for an amount that cannot be, `business-rule` without a reason.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        visible(db, act, "Location", location)
        row = connection.execute(_TO_CLOSE, (location,)).fetchone()
        if row is None:
            raise Outcome("not-found", "No shift is open at this place")
        shift = _shift(connection, row)
        if currency != shift.currency:
            raise Outcome("business-rule", f"The drawer is in {shift.currency}, not in {currency}")
        if counted < 0 or counted != rounded(counted, shift.currency):
            raise Outcome("parameter", f"What is counted is 0 or more, and has {digits(shift.currency)} digits", code="value")
        if counted != shift.report.expected and not act.reason.strip():
            said = f"There should be {shift.report.expected} {shift.currency}: count again, or say by 'reason' why it is not so"
            raise Outcome("business-rule", said)
        report = msgspec.json.encode(shift.report).decode()
        closed = replace(shift, closed=store.clock(), closed_by=act.grant.actor, counted=counted, reason=act.reason or None)
        connection.execute(_CLOSE, (closed.closed, closed.closed_by, counted, closed.reason, report, shift.id))
        tell(closed)
        return ()

    return carry_out(store, act, prepare)


def used(store: Store, connection: Connection, act: Act, method: str, currency: str, location: str | None) -> str | None:
    """The id of the shift that a payment belongs to, which stays open until the transaction ends; None where it belongs to none.

    Raises Outcome `business-rule` where no shift is open at the place, for cash of another currency, and without a shift where one is required.
    """
    if not act.is_desk or method == "gateway":
        return None
    statement, key = (_MINE, approvals.who(act)) if location is None else (_HELD, location)
    row = connection.execute(statement, (key,)).fetchone()
    if row is None:
        if location is not None:
            raise Outcome("business-rule", "No shift is open at this place: $open-shift first")
        if method == "cash" and rules_of(store, connection).shift_required:
            raise Outcome("business-rule", "Cash is taken in a shift: $open-shift first, or name the 'location' of one that is open")
        return None
    identity, of = row
    if method == "cash" and of != currency:
        raise Outcome("business-rule", f"The drawer is in {of}, not in {currency}")
    return str(identity)


def at(store: Store, act: Act, location: str, identity: str | None = None) -> Shift:
    """The shift at a Location, by id: the one that is open, else the one that was closed last, or that of an id.

    Raises Outcome `forbidden` for anybody but the desk, `not-found` where there is none.
    """
    require_desk(act)
    with store.snapshot(act.grant) as db:
        visible(db, act, "Location", location)
        row = db.connection.execute(_AT, (location, identity, identity)).fetchone()
        if row is None:
            raise Outcome("not-found", "There was no such shift at this place")
        return _shift(db.connection, row)


def shift_of(connection: Connection, identity: str) -> Shift:
    """A shift by its id. Raises Outcome `not-found`."""
    row = connection.execute(_ONE, (identity,)).fetchone()
    if row is None:
        raise Outcome("not-found", "There is no such shift")
    return _shift(connection, row)


def page(connection: Connection, location: str | None, after: tuple[datetime, str] | None, limit: int) -> list[Shift]:
    """Shifts, those opened last first, of one Location or of all, behind a place."""
    at, identity = after or (None, None)
    return [_shift(connection, row) for row in connection.execute(_PAGE, (location, location, at, at, identity, limit)).fetchall()]


def _shift(connection: Connection, row: Sequence[Any]) -> Shift:
    identity, location, opened, _, name, currency, there, closed, closed_by, counted, reason, report = row
    found = msgspec.json.decode(report, type=Report) if report is not None else _report(connection, identity, there, currency)
    return Shift(identity, location, opened, name, currency, there, found, closed, closed_by, counted, reason)


def _report(connection: Connection, shift: str, there: Decimal, currency: str) -> Report:
    found = connection.execute(_TOTALS, (shift,)).fetchall()
    totals = tuple(Total(method, user, of, count, rounded(taken, of), rounded(given, of)) for method, user, of, count, taken, given in found)
    expected = there + sum((each.taken - each.given for each in totals if each.method == "cash"), ZERO)
    return Report(rounded(expected, currency), totals)
