"""Search parameters that come, change and go while the server works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Scope, compile_search
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Op, Put
from fhir_server.store.reindexing.reindex import Reindexer
from fhir_server.store.tables import INDEX_TABLES
from tests.store.anew import made_anew

Json = dict[str, Any]


@contextmanager
def store(url: str) -> Iterator[Store]:
    opened = Store(url, zone=ZoneInfo("UTC"), connections=8)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def opened(fresh_database: Callable[[], str]) -> Iterator[Store]:
    with store(fresh_database()) as one:
        yield one


def parameter(code: str, expression: str, **fields: Any) -> Put:
    resource = {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"urn:{code}",
        "name": code,
        "status": "active",
        "description": code,
        "code": code,
        "base": ["Patient"],
        "type": "string",
        "expression": expression,
        **fields,
    }
    return Put(resource, resource["id"])


def patient(identity: str, **fields: Any) -> Put:
    return Put({"resourceType": "Patient", "id": identity, **fields}, identity)


def named(n: int) -> Put:
    name = {"family": f"Family{n}", "given": [f"Given{n}"], "text": f"Text{n}"}
    return patient(f"p{n}", name=[name], maritalStatus={"coding": [{"code": f"m{n}", "display": f"Display {n}"}]})


def write(one: Store, *ops: Op) -> None:
    one.transact(ops, SYSTEM)


def found(one: Store, code: str, value: str, name: str = "Patient") -> list[str]:
    with one.snapshot(SYSTEM) as db:
        query = one.registry.parse(name, [(code, value)], strict=True)
        return sorted(row[2] for row in db.select(compile_search(query, one.registry, SYSTEM)))


def index(one: Store) -> None:
    one.index_now(patience=0)


def url_of(one: Store) -> str:
    return str(one._numbers._pool.conninfo)


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {table.name: sorted(connection.execute(f"SELECT * FROM {table.name}").fetchall(), key=repr) for table in INDEX_TABLES}


def states(url: str, code: str, name: str = "Patient") -> list[tuple[bool, bool]]:
    """Of each row of a parameter, oldest first: whether it answers, and whether it is on its way out."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT ready, retired IS NOT NULL FROM search_param WHERE type = %s AND code = %s ORDER BY pid DESC", (name, code)
        ).fetchall()


def assert_rows_are_right(one: Store) -> None:
    """What is stored is what a rebuild of everything makes."""
    url = url_of(one)
    before = rows(url)
    made_anew(one)
    assert rows(url) == before


def test_a_parameter_is_searchable_when_its_rows_are_made(opened: Store) -> None:
    write(opened, *(named(n) for n in range(450)))
    write(opened, parameter("label", "Patient.name.text"))
    with pytest.raises(Outcome, match="'label' of Patient is being indexed, 0 % done; try again later"):
        found(opened, "label", "Text7")
    write(opened, patient("late", name=[{"text": "Late"}]))
    assert [(each.code, each.source, each.percent) for each in opened.indexing()] == [("label", "label", 0)]
    index(opened)
    assert opened.indexing() == []
    assert found(opened, "label", "text77") == ["p77"]
    assert found(opened, "label", "Late") == ["late"]
    assert found(opened, "label:exact", "Text449") == ["p449"]
    assert_rows_are_right(opened)


def test_the_old_definition_answers_until_the_new_one_is_ready(opened: Store) -> None:
    write(opened, *(named(n) for n in range(5)), parameter("label", "Patient.name.text"))
    index(opened)
    write(opened, parameter("label", "Patient.name.family"))
    assert found(opened, "label", "Text3") == ["p3"]
    assert found(opened, "label", "Family3") == []
    # Written meanwhile, it is found by the old definition.
    write(opened, patient("late", name=[{"text": "Meanwhile", "family": "Afterwards"}]))
    assert found(opened, "label", "Meanwhile") == ["late"]
    index(opened)
    assert found(opened, "label", "Text3") == []
    assert found(opened, "label", "Family3") == ["p3"]
    assert found(opened, "label", "Afterwards") == ["late"]
    assert states(url_of(opened), "label") == [(True, False)]
    assert_rows_are_right(opened)


def test_the_same_definition_again_changes_nothing(opened: Store) -> None:
    write(opened, named(1), parameter("label", "Patient.name.text"))
    index(opened)
    generation = opened.refreshed().parameters.generation
    write(opened, parameter("label", "Patient.name.text", publisher="somebody"))
    assert opened.indexing() == []
    assert opened.refreshed().parameters.generation == generation


def test_a_definition_that_is_changed_back_is_dropped_on_its_way(opened: Store) -> None:
    write(opened, named(1), parameter("label", "Patient.name.text"))
    index(opened)
    write(opened, parameter("label", "Patient.name.family"))
    write(opened, parameter("label", "Patient.name.text"))
    assert opened.indexing() == []
    index(opened)
    assert found(opened, "label", "Text1") == ["p1"]
    assert_rows_are_right(opened)


@pytest.mark.parametrize("end", [Delete("SearchParameter", "label"), parameter("label", "Patient.name.text", status="retired")])
def test_a_parameter_that_goes_takes_its_rows_along(opened: Store, end: Op) -> None:
    write(opened, named(1))
    url = url_of(opened)
    before = rows(url)
    write(opened, parameter("label", "Patient.name.text"))
    index(opened)
    assert found(opened, "label", "Text1") == ["p1"]
    write(opened, end)
    with pytest.raises(Outcome, match="label"):
        found(opened, "label", "Text1")
    index(opened)
    write(opened, Delete("SearchParameter", "label"))
    assert rows(url) == before
    assert states(url, "label") == []


def test_rows_that_a_search_may_still_ask_for_stay_a_while(opened: Store) -> None:
    write(opened, named(1), parameter("label", "Patient.name.text"))
    index(opened)
    write(opened, Delete("SearchParameter", "label"))
    opened.index_now()
    assert states(url_of(opened), "label") == [(False, True)]


def test_one_of_the_specification_is_replaced_and_comes_back(opened: Store) -> None:
    write(opened, *(named(n) for n in range(3)))
    write(opened, parameter("family", "Patient.name.text", url="urn:other"))
    assert found(opened, "family", "Family1") == ["p1"]
    index(opened)
    assert found(opened, "family", "Text1") == ["p1"]
    assert found(opened, "family", "Family1") == []
    write(opened, Delete("SearchParameter", "family"))
    assert found(opened, "family", "Text1") == ["p1"]
    index(opened)
    assert found(opened, "family", "Text1") == []
    assert found(opened, "family", "Family1") == ["p1"]
    assert_rows_are_right(opened)


def test_what_modifiers_ask_for_goes_and_comes_with_the_parameter(opened: Store) -> None:
    write(opened, *(named(n) for n in range(3)), parameter("label", "Patient.maritalStatus", type="token"))
    index(opened)
    assert found(opened, "label:text", "display 1") == ["p1"]
    write(opened, parameter("label", "Patient.name.text"), parameter("language", "Patient.name.family", url="urn:l"))
    index(opened)
    assert_rows_are_right(opened)
    with pytest.raises(Outcome, match="text"):
        found(opened, "label:text", "display 1")
    language = {"communication": [{"language": {"text": "Nederlands"}}]}
    write(opened, patient("nl", **language), Delete("SearchParameter", "language"))
    index(opened)
    assert found(opened, "language:text", "neder") == ["nl"]
    assert_rows_are_right(opened)


def measured(identity: str, code: str, *parts: str) -> Put:
    """An Observation of a code, and of others in its components."""
    components = [{"code": {"coding": [{"code": part, "display": f"Part {part}"}]}, "interpretation": [{"text": f"Not {part}"}]} for part in parts]
    coded = {"status": "final", "code": {"coding": [{"code": code}]}, "subject": {"reference": f"Patient/{identity}"}, "component": components}
    return Put({"resourceType": "Observation", "id": identity, **coded}, identity)


def test_what_leaves_rows_to_one_that_is_replaced_has_its_own_from_then_on(opened: Store) -> None:
    write(opened, measured("a", "x", "y"), measured("b", "y"), measured("c", "z"))
    assert found(opened, "combo-code", "y", "Observation") == ["a", "b"]
    other = {"type": "token", "base": ["Observation"], "url": "urn:component-code"}
    write(opened, parameter("component-code", "Observation.component.interpretation", **other))
    assert {"component-code", "component-code:text", "combo-code", "combo-code:text"} < {each.code for each in opened.indexing()}
    write(opened, measured("d", "x", "y"))
    assert found(opened, "combo-code", "y", "Observation") == ["a", "b", "d"]
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "combo-code", "y", "Observation") == ["a", "b", "d"]
    assert found(opened, "combo-code:text", "part", "Observation") == ["a", "d"]
    assert found(opened, "component-code", "y", "Observation") == []
    assert found(opened, "component-code:text", "not y", "Observation") == ["a", "d"]
    write(opened, Delete("SearchParameter", "component-code"))
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "component-code", "y", "Observation") == found(opened, "component-code:text", "part", "Observation") == ["a", "d"]
    assert found(opened, "combo-code", "y", "Observation") == ["a", "b", "d"]


def test_what_leaves_rows_to_one_on_its_way_comes_along_whatever_is_defined_meanwhile(opened: Store) -> None:
    write(opened, measured("a", "x", "y"), measured("b", "y"))
    fields: dict[str, Any] = {"type": "token", "base": ["Observation"]}
    write(opened, parameter("component-code", "Observation.component.interpretation", **fields))
    write(opened, parameter("combo-code", "Observation.category", **fields))
    write(opened, Delete("SearchParameter", "combo-code"))
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "combo-code", "y", "Observation") == ["a", "b"]


def test_what_a_modifier_asks_for_is_found_where_what_it_leaves_rows_to_becomes_of_another_type(opened: Store) -> None:
    write(opened, measured("a", "x", "y"), measured("b", "y"))
    assert found(opened, "combo-code:text", "part", "Observation") == ["a"]
    write(opened, parameter("component-code", "Observation.component.code.text", type="string", base=["Observation"]))
    write(opened, measured("d", "x", "y"))
    assert found(opened, "combo-code:text", "part", "Observation") == ["a", "d"]
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "combo-code:text", "part", "Observation") == ["a", "d"]
    write(opened, Delete("SearchParameter", "component-code"))
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "combo-code:text", "part", "Observation") == ["a", "d"]
    assert found(opened, "component-code:text", "part", "Observation") == ["a", "d"]


def test_a_subject_is_found_whoever_defines_its_patient(opened: Store) -> None:
    write(opened, measured("a", "x"), measured("b", "x"))
    write(opened, parameter("patient", "Observation.performer", type="reference", base=["Observation"], target=["Patient"]))
    assert found(opened, "patient", "Patient/a", "Observation") == ["a"]
    index(opened)
    assert_rows_are_right(opened)
    assert found(opened, "patient", "Patient/a", "Observation") == []
    assert found(opened, "subject", "Patient/a", "Observation") == ["a"]
    grant = Grant("a", frozenset(), (Scope("*", frozenset("rs"), patient="a"),))
    with opened.snapshot(grant) as db:
        query = opened.registry.parse("Observation", [], strict=True)
        assert [row[2] for row in db.select(compile_search(query, opened.registry, grant))] == ["a"]


def test_what_the_specification_says_itself_costs_nothing(opened: Store) -> None:
    spec = opened.registry.spec.search_params("Patient")["family"]
    write(opened, parameter("family", str(spec.expression), url=spec.url, base=list(spec.base)))
    assert opened.indexing() == []


def test_a_parameter_of_every_type_has_rows_of_every_type(opened: Store) -> None:
    security = {"meta": {"tag": [{"system": "urn:s", "code": "c", "display": "Dis Play"}]}}
    write(opened, patient("p", **security), Put({"resourceType": "Organization", "id": "o", "name": "x", **security}, "o"))
    write(opened, parameter("label", "Resource.meta.tag", base=["Resource"], type="token"))
    index(opened)
    assert found(opened, "label", "urn:s|c") == ["p"]
    assert found(opened, "label", "urn:s|c", "Organization") == ["o"]
    assert found(opened, "label:text", "dis", "Organization") == ["o"]
    assert_rows_are_right(opened)


def test_contained_resources_are_found_wherever_they_are(opened: Store) -> None:
    inner = {"resourceType": "Patient", "id": "x", "name": [{"text": "Inner"}]}
    coded = {"status": "final", "code": {"text": "x"}, "subject": {"reference": "#x"}, "contained": [inner]}
    write(opened, Put({"resourceType": "Observation", "id": "o", **coded}, "o"), parameter("label", "Patient.name.text"))
    index(opened)
    assert_rows_are_right(opened)
    with psycopg.connect(url_of(opened)) as connection:
        assert connection.execute("SELECT count(*) FROM sp_string WHERE folded = 'inner' AND pid < 0").fetchone() != (0,)


def test_two_may_not_define_the_same(opened: Store) -> None:
    write(opened, parameter("label", "Patient.name.text"))
    with pytest.raises(Outcome, match="'label' of Patient is defined by SearchParameter/label already") as refused:
        write(opened, parameter("label", "Patient.name.family", id="other"))
    assert refused.value.status == 409
    both = [parameter("twice", "Patient.name.text", id=identity) for identity in ("a", "b")]
    with pytest.raises(Outcome, match="'twice' of Patient is defined by SearchParameter/a already"):
        write(opened, *both)
    # One takes over what another leaves.
    write(opened, Delete("SearchParameter", "label"), parameter("label", "Patient.name.family", id="other"))
    index(opened)
    assert [each for each in states(url_of(opened), "label") if each == (True, False)] == [(True, False)]


def test_a_type_has_room_for_so_many(opened: Store) -> None:
    write(opened, *(parameter(f"x{n}", "Patient.name.text") for n in range(100)))
    with pytest.raises(Outcome, match="Patient would have more than 100 search parameters of your own"):
        write(opened, parameter("more", "Patient.name.text"))


def test_other_processes_hear_of_it(opened: Store) -> None:
    with store(url_of(opened)) as other:
        write(opened, named(1), parameter("label", "Patient.name.text"))
        write(other, named(2))
        index(opened)
        assert found(other, "label", "Text1") == ["p1"]
        assert found(other, "label", "Text2") == ["p2"]
        write(opened, Delete("SearchParameter", "label"))
        write(other, named(2))
        index(opened)
        assert_rows_are_right(other)


def test_writers_and_the_reindexer_agree(opened: Store) -> None:
    """Creates, updates and deletes all through the walk, by two processes: afterwards every row is there once."""
    write(opened, *(named(n) for n in range(400)))
    faults: list[Exception] = []
    stop = threading.Event()
    with store(url_of(opened)) as other:

        def work(one: Store, seed: int) -> None:
            n = seed
            try:
                while not stop.is_set():
                    n += 1
                    at = (n * 37) % 500
                    op = Delete("Patient", f"p{at}") if n % 5 == 0 else patient(f"p{at}", name=[{"text": f"Changed {n}", "family": f"F{n % 9}"}])
                    write(one, op)
                    write(one, Create({"resourceType": "Patient", "name": [{"text": f"New {seed} {n}"}]}))
            except Exception as error:  # noqa: BLE001 - shown below
                faults.append(error)

        threads = [threading.Thread(target=work, args=(one, seed)) for seed, one in enumerate((opened, opened, other, other))]
        for thread in threads:
            thread.start()
        opened.index_in_background()
        for number, expression in enumerate(("Patient.name.text", "Patient.name.text | Patient.name.family")):
            write(opened, parameter("label", expression), parameter(f"other{number}", expression))
            deadline = time.monotonic() + 30
            while opened.indexing():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        opened.reindex(lambda _done, _total: None)
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    index(opened)
    assert_rows_are_right(opened)


def test_a_writer_that_had_begun_is_waited_for(opened: Store) -> None:
    """It makes its rows by the old set, and commits them after the new parameter is there."""
    write(opened, named(1))
    begun, go = threading.Event(), threading.Event()

    def hold(_db: object) -> None:
        begun.set()
        assert go.wait(20)

    late = threading.Thread(target=lambda: opened.transact([named(2)], SYSTEM, then=hold))
    late.start()
    assert begun.wait(20)
    write(opened, parameter("label", "Patient.name.text"))
    walk = threading.Thread(target=lambda: index(opened))
    walk.start()
    time.sleep(0.2)
    assert walk.is_alive()
    go.set()
    late.join()
    walk.join()
    assert found(opened, "label", "Text2") == ["p2"]
    assert_rows_are_right(opened)


def test_a_walk_that_was_killed_goes_on_where_it_was(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for start in range(0, 1000, 500):
        write(opened, *(named(n) for n in range(start, start + 500)))
    write(opened, parameter("label", "Patient.name.text"))
    replace, calls = Reindexer._replace, []

    def dying(self: Reindexer, connection: Any, rids: Any, pids: Any, **options: Any) -> Any:
        calls.append(min(rids))
        if len(calls) == 3:
            connection.close()
            raise KeyboardInterrupt
        return replace(self, connection, rids, pids, **options)

    monkeypatch.setattr(Reindexer, "_replace", dying)
    with pytest.raises(KeyboardInterrupt):
        index(opened)
    (half,) = [each for each in opened.indexing() if each.code == "label"]
    assert 20 <= half.percent <= 50
    with pytest.raises(Outcome, match=f"{half.percent} % done"):
        found(opened, "label", "Text7")
    reached = calls[-1]
    with store(url_of(opened)) as other:
        index(other)
        assert calls[3] == reached
        assert found(other, "label:exact", "Text7") == ["p7"]
        assert_rows_are_right(other)


def test_one_of_several_works(opened: Store) -> None:
    with store(url_of(opened)) as other, psycopg.connect(url_of(opened)) as connection:
        write(opened, named(1), parameter("label", "Patient.name.text"))
        connection.execute("SELECT pg_advisory_lock(%s)", (0x46484954,))
        index(other)
        assert len(opened.indexing()) == 1
        connection.execute("SELECT pg_advisory_unlock(%s)", (0x46484954,))
        index(other)
        assert opened.indexing() == []


def test_the_thread_wakes_for_what_is_written(opened: Store) -> None:
    opened.index_in_background()
    write(opened, named(1), parameter("label", "Patient.name.text"))
    deadline = time.monotonic() + 8
    while opened.indexing():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found(opened, "label", "Text1") == ["p1"]


def test_a_full_rebuild_makes_what_is_coming_ready(opened: Store) -> None:
    write(opened, named(1), parameter("label", "Patient.name.text"))
    made_anew(opened)
    assert opened.indexing() == []
    assert found(opened, "label", "Text1") == ["p1"]


@pytest.mark.parametrize(
    ("chosen", "count"),
    [({}, 4), ({"resource_type": "Patient"}, 3), ({"resource_type": "Patient", "code": "family"}, 3), ({"code": "family"}, 3)],
)
def test_reindexing_repairs_rows(opened: Store, chosen: dict[str, str], count: int) -> None:
    write(opened, *(named(n) for n in range(3)), Put({"resourceType": "Basic", "id": "b", "code": {"text": "x"}}, "b"))
    url = url_of(opened)
    before = rows(url)
    pid = opened.refreshed().parameters.numbers["Patient", "family"]
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM sp_string WHERE pid = %s", (pid,))
        connection.execute("INSERT INTO sp_string SELECT %s, 'wrong', 'wrong', rid, true, true FROM resource WHERE id = 'p1'", (pid,))
    seen: list[tuple[int, int]] = []
    assert opened.reindex(lambda done, total: seen.append((done, total)), **chosen) == count
    assert seen[-1] == (count if chosen.get("code") is None or chosen.get("resource_type") else 3, seen[-1][1])
    assert rows(url) == before


@pytest.mark.parametrize("code", ["combo-code", "code"])
def test_reindexing_what_has_no_rows_of_its_own_repairs_those_that_it_is_searched_by(opened: Store, code: str) -> None:
    write(opened, measured("a", "x", "y"))
    url = url_of(opened)
    before = rows(url)
    numbers = opened.refreshed().parameters.numbers
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM sp_token WHERE pid = %s", (numbers["Observation", "code"],))
        connection.execute("INSERT INTO sp_token SELECT %s, 'old', 0, rid, true, true FROM resource", (numbers["Observation", code],))
    assert opened.reindex(lambda _done, _total: None, resource_type="Observation", code=code) == 1
    assert rows(url) == before


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"resource_type": "Nonsense"}, "'Nonsense' is not a resource type"),
        ({"resource_type": "Patient", "code": "nonsense"}, "no search parameter 'nonsense' of Patient"),
        ({"code": "nonsense"}, "no search parameter 'nonsense'"),
    ],
)
def test_reindexing_what_is_not_there_is_refused(opened: Store, chosen: dict[str, str], text: str) -> None:
    with pytest.raises(Outcome, match=text):
        opened.reindex(lambda _done, _total: None, **chosen)
