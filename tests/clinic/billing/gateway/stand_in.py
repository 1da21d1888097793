"""A gateway for tests: localstripe as a process of its own, and a clinic that is set up with it."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wsgi import get_input_stream

from fhir_server.app import build_app
from fhir_server.clinic.billing.gateway import Online
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store
from tests.clinic.billing.world import Json, ask, desk
from tests.interactions.conftest import BASE, SECRET, ZONE, Fhir, token, unique

KEY = "sk_test_stand_in"
WEBHOOK_SECRET = "whsec_that_only_the_tests_know_of"
HOOK = "/payments/webhook/stripe"

# It keeps what it has in one file of the machine, which others may use too; it has no way to answer too late, and no Checkout Sessions. With the
# argument `pages` it has those too, as https://docs.stripe.com/api/checkout/sessions describes them.
SERVER = """
import socket, sys, time
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
swallowed = {"after": 0, "before": 0}

@web.middleware
async def swallow(request, handler):
    if request.path == "/_swallow":
        swallowed.update({name: int(value) for name, value in request.query.items()})
        return web.Response()
    if request.method == "POST" and not request.path.startswith("/_") and swallowed["before"]:
        swallowed["before"] -= 1
        request.transport.abort()
        return web.Response()
    response = await handler(request)
    if request.method == "POST" and not request.path.startswith("/_") and swallowed["after"]:
        swallowed["after"] -= 1
        request.transport.abort()
    return response

if sys.argv[1:] == ["pages"]:
    sessions = {}

    def shown(session, expand=()):
        intent = session["payment_intent"]
        whole = resources.PaymentIntent._api_retrieve(intent)._export() if intent and expand else intent
        return server.json_response(session | {"payment_intent": whole})

    async def create(request):
        asked = await server.get_post_data(request)
        order = asked["client_reference_id"]
        (item,) = asked["line_items"]
        assert asked["payment_intent_data"]["metadata"] == asked["metadata"] == {"clinic_payment": order}
        price = item["price_data"]
        assert price["product_data"]["name"].startswith("Invoice INV-") and asked["success_url"] == asked["cancel_url"]
        number = "cs_test_" + resources.random_id(20)
        sessions[number] = {
            "id": number, "object": "checkout.session", "client_reference_id": order, "metadata": asked["metadata"], "created": int(time.time()),
            "amount_total": int(price["unit_amount"]), "currency": price["currency"], "payment_intent": None, "payment_status": "unpaid",
            "status": "open", "url": "https://checkout.stand-in.example/c/pay/" + number,
        }
        return shown(sessions[number])

    async def retrieve(request):
        return shown(sessions[request.match_info["id"]], server.unflatten_data(request.query).get("expand", ()))

    async def expire(request):
        session = sessions[request.match_info["id"]]
        if session["status"] != "open":
            raise server.UserError(400, "Only open ones expire", {"code": "resource_not_open"})
        session["status"] = "expired"
        return shown(session)

    async def listed(request):
        since = int(request.query["created[gte]"])
        found = [each for each in sessions.values() if each["created"] >= since]
        return server.json_response({"object": "list", "data": found, "has_more": False, "url": "/v1/checkout/sessions"})

    async def pay(request):
        session = sessions[request.match_info["id"]]
        means = resources.PaymentMethod._api_retrieve("pm_card_visa").id
        intent = resources.PaymentIntent._api_create(
            amount=session["amount_total"], currency=session["currency"], metadata=session["metadata"], payment_method=means, confirm=True
        )
        session.update(payment_intent=intent.id, payment_status="paid", status="complete")
        return shown(session)

    for method, path, handler in (
        ("POST", "/v1/checkout/sessions", create), ("GET", "/v1/checkout/sessions", listed), ("GET", "/v1/checkout/sessions/{id}", retrieve),
        ("POST", "/v1/checkout/sessions/{id}/expire", expire), ("POST", "/v1/checkout/sessions/{id}/_pay", pay),
    ):
        server.app.router.add_route(method, path, handler)

server.app.middlewares.insert(0, swallow)
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
web.run_app(server.app, sock=listening, print=None, access_log=None)
"""


@dataclass
class StandIn:
    """localstripe. `base` is its address without /v1."""

    base: str
    session: requests.Session = field(default_factory=requests.Session)

    def __call__(self, method: str, path: str, status: int = 200, **fields: Any) -> Json:
        answer = self.session.request(method, f"{self.base}/v1/{path}", data=fields, auth=(KEY, ""), timeout=10)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    def pay(self, reference: str, number: str = "4242424242424242") -> Json:
        """Somebody pays an intent with a card."""
        card = {"card[number]": number, "card[exp_month]": "12", "card[exp_year]": "2040", "card[cvc]": "123"}
        means = self("POST", "payment_methods", 200, type="card", **card)["id"]
        self("POST", f"payment_intents/{reference}", payment_method=means)
        return self("POST", f"payment_intents/{reference}/confirm")

    def intents(self, order: str) -> list[Json]:
        """All that were begun for one of our payments."""
        found = self("GET", "payment_intents?limit=10000")["data"]
        return [each for each in found if each["metadata"].get("clinic_payment") == order]

    def swallow(self, *, after: int = 0, before: int = 0) -> None:
        """The next so many orders get no answer: after they were carried out, or before."""
        assert requests.get(f"{self.base}/_swallow", params={"after": after, "before": before}, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)


@contextmanager
def localstripe(*options: str) -> Iterator[StandIn]:
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield StandIn(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class Clinic:
    """A clinic with a gateway."""

    fhir: Fhir
    stripe: StandIn
    online: Online
    store: Store
    settings: Settings

    def begin(self, invoice: Json, caller: Fhir | None = None, status: int = 200, **given: Any) -> dict[str, Any]:
        """What `$pay` by the gateway answers, by name."""
        answer = (caller or desk(self.fhir)).post(f"Invoice/{invoice['id']}/$pay", ask(method="gateway", **given), status)
        return (
            {each["name"]: next(value for name, value in each.items() if name != "name") for each in answer["parameter"]} if status == 200 else answer
        )

    def tell(self, event: Json, *, headers: dict[str, str] | None = None, at: float | None = None) -> TestResponse:
        """Posts an event as the gateway signs it."""
        raw = json.dumps(event).encode()
        return self.fhir.app.test_client(use_cookies=False).post(
            HOOK, data=raw, headers={"Stripe-Signature": signature(raw, at=at)} | (headers or {})
        )

    def page(self, url: str, language: str = "en", method: str = "GET") -> TestResponse:
        client = self.fhir.app.test_client()
        return client.open(url.removeprefix("http://localhost"), method=method, headers={"Accept-Language": language})

    def ledger(self, invoice: Json) -> list[tuple[str, str]]:
        """Kinds and amounts that an invoice's ledger has beside the charge."""
        statement = "SELECT kind, amount::text FROM ledger_entry WHERE invoice = %s AND kind <> 'charge' ORDER BY number"
        with self.store.database.connection() as connection:
            return [(str(kind), str(amount)) for kind, amount in connection.execute(statement, (invoice["id"],)).fetchall()]

    def receipts(self, invoice: Json) -> list[Json]:
        """The PaymentReconciliations that an invoice's ledger was written for."""
        with self.store.database.connection() as connection:
            rows = connection.execute(
                "SELECT cause FROM ledger_entry WHERE invoice = %s AND kind <> 'charge' ORDER BY number", (invoice["id"],)
            ).fetchall()
        return [self.fhir.get(str(cause)) for (cause,) in rows if "#" not in cause]

    def state(self, identity: str) -> str:
        with self.store.database.connection() as connection:
            row = connection.execute("SELECT state FROM payment_intent WHERE id = %s", (identity,)).fetchone()
        assert row is not None
        return str(row[0])

    def age(self, seconds: int, table: str = "payment_intent") -> None:
        """Makes all that is open look as if it was tried so long ago."""
        columns = {"payment_intent": ("checked", "asked"), "payment_refund": ("tried", "asked")}[table]
        changes = ", ".join(f"{each} = {each} - make_interval(secs => {seconds})" for each in columns)
        with self.store.database.connection() as connection:
            connection.execute(f"UPDATE {table} SET {changes}")


def clinic(url: str, folder: Path, stripe: StandIn, **options: Any) -> Clinic:
    """A clinic over a database; `options` are settings."""
    store = Store(url, zone=ZONE, bases=(BASE,), connections=8)
    given: dict[str, Any] = {"payment_api_key": KEY, "payment_api_base": stripe.base, "payment_webhook_secret": WEBHOOK_SECRET}
    settings = Settings(data=folder, jwt_secret=SECRET, clinic_timezone=ZONE, **(given | options))
    made = Fhir(build_app(Engine.build(store, settings, names()), settings), token())
    return Clinic(made, stripe, Online(store, settings), store, settings)


@contextmanager
def serving(made: Clinic) -> Iterator[str]:
    """The clinic at an address, for browsers and gateways."""
    inner: Any = made.fhir.app

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        # As the product's own server has it: at its end a body ends.
        return inner(environ | {"wsgi.input": get_input_stream(environ)}, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signature(raw: bytes, *, at: float | None = None, secret: str = WEBHOOK_SECRET) -> str:
    moment = int(time.time() if at is None else at)
    made = hmac.new(secret.encode(), f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
    return f"t={moment},v1={made}"


def event(kind: str, about: Json) -> Json:
    return {"id": unique("evt").replace("-", "_"), "object": "event", "type": kind, "created": int(time.time()), "data": {"object": about}}


def succeeded(reference: str, amount: int = 12000, currency: str = "eur") -> Json:
    about = {"id": reference, "object": "payment_intent", "amount": amount, "amount_received": amount, "currency": currency, "status": "succeeded"}
    return event("payment_intent.succeeded", about)


def completed(reference: str, amount: int = 12000, currency: str = "eur", **fields: Any) -> Json:
    about = {"id": unique("cs"), "object": "checkout.session", "payment_intent": reference, "amount_total": amount, "currency": currency}
    return event("checkout.session.completed", about | {"payment_status": "paid", "status": "complete"} | fields)


def refunded(reference: str, total: int, amount: int = 12000, currency: str = "eur") -> Json:
    about = {"id": unique("ch"), "object": "charge", "payment_intent": reference, "amount": amount, "amount_refunded": total, "currency": currency}
    return event("charge.refunded", about)


def disputed(reference: str, amount: int = 12000, currency: str = "eur") -> Json:
    about = {"id": unique("dp"), "object": "dispute", "charge": "ch_x", "payment_intent": reference, "amount": amount, "currency": currency}
    return event("charge.dispute.created", about | {"reason": "fraudulent", "status": "needs_response"})
