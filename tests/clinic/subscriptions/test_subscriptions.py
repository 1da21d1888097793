"""Subscriptions from the resource to the POST: whose rights they have, what is told, and what becomes of subscribers who do not answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server import fhirjson
from fhir_server.access.accounts.accounts import Accounts, NewAccount
from fhir_server.access.policy import Policy
from fhir_server.access.tokens import grant_of, issue
from fhir_server.clinic.subscriptions import CONSUMER, Subscriptions, rows
from fhir_server.clinic.subscriptions.endpoint import Unreachable, fault_of, post, signature
from fhir_server.clinic.subscriptions.subscriptions import CHECK, FAILURES
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.dispatch import dispatch
from fhir_server.interactions.subscriptions import concealed
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import CANON, Settings
from fhir_server.store import Store
from fhir_server.store.ops import Delete, Put
from fhir_server.store.outbox import drain
from tests.listening import Handler, http_server

Json = dict[str, Any]
SECRET = "a secret of the subscriber"
JWT = "x" * 32


@dataclass
class Told:
    """One notification as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found


class Hook:
    """A subscriber, who answers as the test has it."""

    def __init__(self) -> None:
        self.status, self.location, self.got = 200, "", list[Told]()
        hook = self

        class Takes(Handler):
            def take(self) -> None:
                hook.got.append(Told(self.path, dict(self.headers.items()), self.sent()))
                self.answer(hook.status, headers={"Location": hook.location} if hook.location else None)

        self.handler, self.url = Takes, ""


@contextmanager
def hooked() -> Iterator[Hook]:
    made = Hook()
    with http_server(made.handler) as address:
        made.url = f"{address}/hook"
        yield made


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as made:
        yield made


class Clock:
    """The time, as the test has it."""

    def __init__(self) -> None:
        self.at = datetime(2031, 3, 3, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class House:
    """A clinic with its worker's part in Subscriptions."""

    def __init__(self, url: str, data: Path) -> None:
        self.clock = Clock()
        self.store = Store(url, zone=ZoneInfo("UTC"), connections=8, clock=self.clock)
        self.settings = Settings(data=data, jwt_secret=JWT, database_url=url)
        self.engine = Engine.build(self.store, self.settings)
        self.subscriptions = Subscriptions(self.engine, self.settings)
        Policy(self.store).set_subscriptions("any", "tests")

    def ask(self, interaction: Any, body: Json | None = None, identity: str | None = None, grant: Grant = SYSTEM) -> Reply:
        return dispatch(self.engine, Exchange(interaction, grant, "http://localhost/fhir", "Subscription", identity, body=body))

    def subscribe(self, url: str, criteria: str = "Appointment?status=booked", grant: Grant | None = None, **channel: Any) -> str:
        extension = [{"url": f"{CANON}/StructureDefinition/subscription-secret", "valueString": SECRET}]
        body: Json = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "tests",
            "criteria": criteria,
            "channel": {"type": "rest-hook", "endpoint": url, "extension": extension, **channel},
        }
        if "end" in channel:
            body["end"] = body["channel"].pop("end")
        reply = self.ask("create", body, grant=grant or SERVICE)
        assert reply.id is not None
        self.work()
        return reply.id

    def shown(self, identity: str) -> Json:
        found: Json = json.loads(self.ask("read", identity=identity).body or b"")
        return found

    def put(self, resource: Json) -> None:
        self.store.transact([Put(resource, resource["id"])], SYSTEM)

    def hear(self) -> set[tuple[str, str]]:
        tasks: set[tuple[str, str]] = set()
        while drain(self.store.database, CONSUMER, lambda connection, changes: tasks.update(self.subscriptions.hear(connection, changes))) == "some":
            pass
        return tasks

    def work(self) -> None:
        """All that is to be done now."""
        for name, identity in sorted(self.hear() | set(self.subscriptions.due())):
            if name == CHECK:
                self.subscriptions.check(identity)
            else:
                self.subscriptions.deliver(identity)

    def deliveries(self, identity: str) -> list[rows.Delivery]:
        with self.store.database.connection() as connection:
            return rows.deliveries(connection, {"subscription": identity}, None, 100)


SERVICE = grant_of(JWT, issue(JWT, role=None, user="lab", patient=None, scope="system/Subscription.cruds system/Appointment.rs", ttl=3600, now=0), 0)


@pytest.fixture(scope="module")
def shared(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(fresh_database(), tmp_path_factory.mktemp("data"))
    yield made
    made.store.close()


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """The clinic of the module; what a test has subscribed to is over with it."""
    shared.clock.at = datetime(2031, 3, 3, 9, tzinfo=UTC)
    yield shared
    with shared.store.database.connection() as connection:
        names = [each.id for each in rows.page(connection, None, 1000)]
    shared.store.transact([Delete("Subscription", name) for name in names], SYSTEM)
    shared.hear()


def appointment(identity: str, status: str = "booked", **fields: Any) -> Json:
    people = [{"status": "accepted", "actor": {"display": "somebody"}}]
    return {"resourceType": "Appointment", "id": identity, "status": status, "participant": people, **fields}


def test_what_matches_is_told_by_its_id_and_signed(house: House, hook: Hook) -> None:
    identity = house.subscribe(hook.url, header=["Authorization: Bearer hidden", "X-Tenant: 7"])
    assert house.shown(identity)["status"] == "active"
    house.put(appointment("one"))
    house.put(appointment("two", "pending"))
    house.work()
    (told,) = hook.got
    assert {each["name"]: next(value for key, value in each.items() if key != "name") for each in told.json["parameter"]} == {
        "subscription": {"reference": f"Subscription/{identity}"},
        "focus": {"reference": "Appointment/one"},
        "version": "1",
    }
    assert (told.headers["Authorization"], told.headers["X-Tenant"]) == ("Bearer hidden", "7")
    assert told.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
    moment, _, mac = told.headers["X-Signature"].partition(",v1=")
    expected = hmac.new(SECRET.encode(), moment.removeprefix("t=").encode() + b"." + told.body, hashlib.sha256).hexdigest()
    assert mac == expected
    assert [each.state for each in house.deliveries(identity)] == ["delivered"]


def test_the_resource_itself_is_told_where_it_is_asked_for_each_time_that_it_matches(house: House, hook: Hook) -> None:
    house.subscribe(hook.url, payload="application/fhir+json")
    for text in ("a", "b"):
        house.put(appointment("three", description=text))
    house.put(appointment("three", "cancelled"))
    house.work()
    assert [(told.json["id"], told.json["description"]) for told in hook.got] == [("three", "a"), ("three", "b")]


@pytest.mark.parametrize(
    ("channel", "fits"),
    [
        ({"header": [f"X-Tenant-{n}: 7" for n in range(20)]}, True),
        ({"header": [f"X-Tenant-{n}: 7" for n in range(21)]}, False),
        ({"header": ["X-Tenant: " + "7" * 3_990]}, True),
        ({"header": ["X-Tenant: " + "7" * 3_991]}, False),
        ({"header": ["Content-Length: 7"]}, False),
        ({"header": ["X-Tenant: 7\r\nX-Other: 8"]}, False),
        ({"extension": [{"url": f"{CANON}/StructureDefinition/subscription-secret", "valueString": "x" * 16}]}, True),
        ({"extension": [{"url": f"{CANON}/StructureDefinition/subscription-secret", "valueString": "x" * 15}]}, False),
        ({"extension": [{"url": f"{CANON}/StructureDefinition/subscription-secret", "valueString": "x" * 4_001}]}, False),
    ],
)
def test_headers_and_secrets_have_bounds(house: House, channel: Json, *, fits: bool) -> None:
    subscription = {"resourceType": "Subscription", "channel": {"endpoint": "https://display.example.org/", **channel}}
    if fits:
        sealed = concealed(subscription, house.engine.vault)["channel"]
        assert "sealed:" in str(sealed)
        return
    with pytest.raises(Outcome) as refused:
        concealed(subscription, house.engine.vault)
    assert refused.value.status == 422
    assert "xxxx" not in str(refused.value)


def test_secrets_of_a_channel_are_shown_to_nobody_and_can_be_written_back(house: House, hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    identity = house.subscribe(hook.url, header=["Authorization: Bearer hidden"])
    shown = house.shown(identity)
    assert shown["channel"]["header"][0].startswith("Authorization: sealed:")
    for reply in (house.ask("read", identity=identity), house.ask("history", identity=identity)):
        assert reply.body is not None
        assert b"hidden" not in reply.body
        assert SECRET.encode() not in reply.body
    house.ask("update", {**shown, "reason": "more tests", "status": "requested"}, identity)
    house.work()
    house.put(appointment("four"))
    house.work()
    assert hook.got[-1].headers["Authorization"] == "Bearer hidden"
    stolen = {**shown, "channel": {**shown["channel"], "endpoint": "https://elsewhere.example.org/"}}
    with pytest.raises(Outcome, match="another endpoint"):
        house.ask("update", stolen, identity)
    assert "hidden" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("header", ["Host: x", "Content-Length: 0", "X-Signature: x", "no colon", "A: b\r\nC: d", "Ä: b", "A: " + "x" * 5000])
def test_headers_that_cannot_be_are_refused_without_being_repeated(house: House, header: str) -> None:
    with pytest.raises(Outcome) as caught:
        house.subscribe("https://example.org", header=[header])
    assert caught.value.category == "invalid"
    assert header not in str(caught.value.issues)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"criteria": "Appointment?nothing=1"}, "nothing"),
        ({"criteria": "Nothing?a=b"}, "criteria"),
        ({"criteria": "Appointment?_include=Appointment:patient"}, "_include"),
        ({"criteria": "Appointment?_sort=date"}, "_sort"),
        ({"criteria": "Observation?code=1"}, "may not read Observation"),
        ({"criteria": "AuditEvent?action=R"}, "criteria"),
        ({"type": "email"}, "rest-hook"),
        ({"payload": "application/fhir+xml"}, "payload"),
        ({"url": "ftp://example.org/"}, "https://"),
        ({"url": "https://user:hidden@example.org/"}, "no account"),
    ],
)
def test_a_subscription_that_cannot_work_is_in_error_and_says_why(house: House, fields: Json, said: str) -> None:
    given = dict(fields)
    identity = house.subscribe(given.pop("url", "https://example.org/hook"), given.pop("criteria", "Appointment?status=booked"), **given)
    shown = house.shown(identity)
    assert shown["status"] == "error"
    assert said in shown["error"]


def test_one_that_was_mended_is_active_again(house: House, hook: Hook) -> None:
    identity = house.subscribe(hook.url, "Appointment?nothing=1")
    house.ask("update", {**house.shown(identity), "criteria": "Appointment?status=booked", "status": "requested"}, identity, SERVICE)
    house.work()
    shown = house.shown(identity)
    assert (shown["status"], "error" in shown) == ("active", False)


def test_one_that_is_off_deleted_or_over_tells_nothing(house: House, hook: Hook) -> None:
    off, gone, over = house.subscribe(hook.url), house.subscribe(hook.url), house.subscribe(hook.url, end="2031-03-04T00:00:00Z")
    house.put(appointment("five"))
    house.work()
    assert len(hook.got) == 3
    house.ask("update", {**house.shown(off), "status": "off"}, off)
    house.ask("delete", identity=gone)
    house.clock.at += timedelta(days=2)
    house.work()
    house.put(appointment("six"))
    house.work()
    assert len(hook.got) == 3
    assert [house.shown(each)["status"] for each in (off, over)] == ["off", "off"]


def test_who_may_not_make_subscriptions_makes_none(house: House) -> None:
    body = {"resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Patient?", "channel": {"type": "rest-hook"}}
    for role in ("doctor", "staff"):
        grant = grant_of(JWT, issue(JWT, role=role, user="u", patient=None, scope=None, ttl=3600, now=0), 0)
        with pytest.raises(Outcome) as caught:
            house.ask("create", body, grant=grant)
        assert caught.value.category == "forbidden"


def test_a_subscriber_is_told_of_what_their_scopes_open_and_nothing_else(house: House, hook: Hook) -> None:
    scope = "system/Subscription.cruds system/Observation.rs?category=laboratory"
    grant = grant_of(JWT, issue(JWT, role=None, user="lab", patient=None, scope=scope, ttl=3600, now=0), 0)
    house.subscribe(hook.url, "Observation?status=final", grant)
    for name in ("laboratory", "vital-signs"):
        category = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": name}]}]
        house.put({"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "x"}, "category": category})
    house.work()
    assert [told.json["parameter"][1]["valueReference"]["reference"] for told in hook.got] == ["Observation/laboratory"]


def test_a_consent_that_forbids_counts_for_a_subscriber_too(house: House, hook: Hook) -> None:
    login = f"{uuid.uuid4().hex}@example.org"
    accounts = Accounts(house.store, house.engine.vault)
    account = accounts.add(NewAccount(login, "correct horse battery", ("admin",)), house.clock())
    assert account is not None
    admin = replace(grant_of(JWT, issue(JWT, role="admin", user=login, patient=None, scope=None, ttl=3600, now=0), 0), account=account.id)
    identity = house.subscribe(hook.url, "Condition?", admin)
    for name in ("open", "shut"):
        house.put({"resourceType": "Patient", "id": name})
    provision = {"type": "deny"}
    category = [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}]
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    consent = {"resourceType": "Consent", "id": "no", "status": "active", "scope": scope, "category": category, "provision": provision}
    house.put({**consent, "patient": {"reference": "Patient/shut"}})
    for name in ("open", "shut"):
        house.put({"resourceType": "Condition", "id": name, "subject": {"reference": f"Patient/{name}"}})
    house.work()
    assert [told.json["parameter"][1]["valueReference"]["reference"] for told in hook.got] == ["Condition/open"]
    # What is forbidden between the change and the telling is not told.
    hook.status = 503
    house.put({"resourceType": "Condition", "id": "open", "subject": {"reference": "Patient/open"}, "code": {"text": "x"}})
    house.work()
    house.put({**consent, "id": "neither", "patient": {"reference": "Patient/open"}})
    hook.status, house.clock.at = 200, house.clock.at + timedelta(hours=1)
    house.work()
    assert [each.state for each in house.deliveries(identity)] == ["dead", "delivered"]
    accounts.set_state(account.id, "disabled", house.clock())
    house.put({"resourceType": "Condition", "id": "open", "subject": {"reference": "Patient/open"}})
    house.work()
    house.work()
    assert house.shown(identity)["status"] == "error"
    assert "no access" in house.shown(identity)["error"]


def test_who_does_not_answer_is_tried_again_in_order_and_at_last_in_error_until_asked_again(house: House, hook: Hook) -> None:
    identity = house.subscribe(hook.url)
    hook.status = 500
    for number in range(3):
        house.put(appointment(f"late-{number}"))
    tries = 0
    while house.shown(identity)["status"] == "active":
        house.work()
        house.work()
        tries += 1
        assert len(hook.got) == tries
        house.clock.at += timedelta(hours=1)
    assert tries == FAILURES
    assert "the subscriber answered 500" in house.shown(identity)["error"]
    hook.status, hook.got = 200, []
    house.ask("update", {**house.shown(identity), "status": "requested"}, identity, SERVICE)
    house.work()
    house.work()
    assert [told.json["parameter"][1]["valueReference"]["reference"] for told in hook.got] == [f"Appointment/late-{n}" for n in range(3)]


def test_a_notification_that_is_not_taken_holds_up_nothing_and_can_be_replayed(house: House, hook: Hook) -> None:
    identity = house.subscribe(hook.url)
    hook.status = 422
    house.put(appointment("seven"))
    house.work()
    hook.status = 200
    house.put(appointment("eight"))
    house.work()
    assert sorted(each.state for each in house.deliveries(identity)) == ["dead", "delivered"]
    dead = next(each for each in house.deliveries(identity) if each.state == "dead")
    with house.store.database.connection() as connection, connection.transaction():
        rows.replay(connection, dead.id)
    house.work()
    assert [told.headers["X-Delivery-Id"] for told in hook.got].count(str(dead.id)) == 2
    assert [each.state for each in house.deliveries(identity)] == ["delivered", "delivered"]


def test_a_redirect_is_not_followed(house: House, hook: Hook) -> None:
    with hooked() as other:
        identity = house.subscribe(hook.url)
        hook.status, hook.location = 307, other.url
        house.put(appointment("nine"))
        house.work()
        assert len(hook.got) == 1
        assert other.got == []
        assert [each.state for each in house.deliveries(identity)] == ["waiting"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]", "[fe80::1]"],
)
def test_addresses_of_this_network_are_reached_only_where_that_is_allowed(host: str) -> None:
    with pytest.raises(Unreachable, match="in this network"):
        post(f"http://{host}:1/", {}, b"", anywhere=False)


@pytest.mark.parametrize("url", ["", "x", "http://", "file:///etc/passwd", "http://[", "http://a:99999/", "https://u@h/", "http://h:0/"])
def test_what_is_no_endpoint_is_told_so(url: str) -> None:
    assert fault_of(url) is not None


def test_the_policy_shuts_this_network(house: House, hook: Hook) -> None:
    policy = Policy(house.store)
    identity = house.subscribe(hook.url)
    with house.store.database.connection() as connection, connection.transaction():
        policy.set_subscriptions("public", "tests", connection=connection)
    try:
        house.put(appointment("ten"))
        house.work()
        assert hook.got == []
        assert [each.state for each in house.deliveries(identity)] == ["waiting"]
    finally:
        policy.set_subscriptions("any", "tests")


def test_a_signature_is_over_the_time_and_the_body() -> None:
    assert signature("s", 5, b"x") == "t=5,v1=" + hmac.new(b"s", b"5.x", hashlib.sha256).hexdigest()


def test_a_version_that_is_not_current_any_more_is_judged_by_its_content(house: House, hook: Hook) -> None:
    house.subscribe(hook.url)
    house.put(appointment("eleven"))
    house.put(appointment("eleven", "cancelled"))
    house.work()
    assert [told.json["parameter"][2]["valueId"] for told in hook.got] == ["1"]


def test_what_is_told_is_in_the_audit_trail(house: House, hook: Hook) -> None:
    identity = house.subscribe(hook.url)
    house.put(appointment("twelve"))
    house.work()
    statement = "SELECT actor, detail FROM audit_event WHERE kind = 'export' AND resource = 'twelve'"
    with house.store.database.connection() as connection:
        assert connection.execute(statement).fetchall() == [("lab", f"told to Subscription/{identity}")]
    assert fhirjson.loads(hook.got[0].body)["resourceType"] == "Parameters"
