"""Shifts and rules of payments, for administrators."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing.payments import shifts
from fhir_server.search import SYSTEM, Grant
from tests.admin.conftest import Desk, problem


def cashier(name: str) -> Act:
    return Act("open-shift", Grant(name, frozenset({"staff"}), SYSTEM.scopes, acts=SYSTEM.acts), reason="counted twice")


def shift(desk: Desk, place: str, name: str, counted: str) -> str:
    """A shift that is over."""
    store, made = desk.clinic.store, list[shifts.Shift]()
    shifts.open_shift(store, cashier(name), place, Decimal("50.00"), "EUR", made.append)
    shifts.close_shift(store, cashier(name), place, Decimal(counted), "EUR", made.append)
    return made[-1].id


def test_shifts_are_listed_those_opened_last_first(desk: Desk, place: str) -> None:
    found = [shift(desk, place, f"page {n}", "50.00") for n in range(3)]
    first = desk.ok("GET", f"/payments/shifts?location={place}&limit=2")
    second = desk.ok("GET", first["next"])
    assert [each["id"] for each in (*first["items"], *second["items"])] == found[::-1]
    assert second["next"] is None
    one = desk.ok("GET", f"/payments/shifts/{found[0]}")
    assert (one["opened_by"], one["float"], one["expected"], one["counted"], one["difference"]) == ("page 0", "50.00", "50.00", "50.00", "0.00")
    assert found[0] in {each["id"] for each in desk.ok("GET", "/payments/shifts")["items"]}


def test_a_shift_is_a_table_that_computes_nothing(desk: Desk, place: str) -> None:
    name = "=HYPERLINK(1)"
    identity = shift(desk, place, name, "48.50")
    with desk.clinic.store.database.connection() as connection:
        report = f'{{"expected":"50.00","totals":[{{"method":"card","user":"{name}","currency":"EUR","payments":1,"taken":"9.00","given":"0.00"}}]}}'
        connection.execute("UPDATE cash_shift SET report = %s WHERE id = %s", (report, identity))
    answer = desk("GET", f"/payments/shifts/{identity}/report")
    assert (answer.status_code, answer.mimetype, answer.headers["Cache-Control"]) == (200, "text/csv", "no-store")
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["item", "method", "user", "currency", "payments", "taken", "given"],
        ["float", "", "", "EUR", "", "50.00", ""],
        ["total", "card", "'=HYPERLINK(1)", "EUR", "1", "9.00", "0.00"],
        ["expected", "", "", "EUR", "", "50.00", ""],
        ["counted", "", "", "EUR", "", "48.50", ""],
        ["difference", "", "", "EUR", "", "-1.50", ""],
    ]


def test_what_is_not_there_is_not_found(desk: Desk) -> None:
    problem(desk("GET", "/payments/shifts/nothing"), 404)
    problem(desk("GET", "/payments/shifts/nothing/report"), 404)


def test_rules_of_payments_are_decided_and_kept(desk: Desk) -> None:
    assert desk.ok("GET", "/payments/settings") == {"coins": {}, "shift_required": False}
    tag = desk("GET", "/payments/settings").headers["ETag"]
    wanted = {"coins": {"EUR": "0.05"}, "shift_required": True}
    assert desk.ok("PATCH", "/payments/settings", wanted, If_Match=tag) == wanted
    problem(desk("PATCH", "/payments/settings", {"coins": {}}, If_Match=tag), 412)
    for body in ({"coins": {"EUR": "0.001"}}, {"coins": {"eur": "1"}}, {"shift_required": 1}, {"cash": True}):
        problem(desk("PATCH", "/payments/settings", body), 422)
    assert desk.ok("PATCH", "/payments/settings", {"coins": {}, "shift_required": False}) == {"coins": {}, "shift_required": False}
