from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, jsonify
from flask.testing import FlaskClient

from fhir_server.web import Browser, FormGuard, Pages
from fhir_server.web.pages import browser_name, local_path

from .conftest import Clinic

FORM = "application/x-www-form-urlencoded"


class Kit:
    """A small application of its own that uses the kit as any page does."""

    def __init__(self, clinic: Clinic) -> None:
        self.pages, self.forms = Pages(clinic.settings), FormGuard(clinic.settings)
        self.browser = Browser(clinic.store, clinic.settings, clinic.clock)
        self.account = clinic.account()
        routes = Blueprint("kit", __name__)
        routes.register_error_handler(Exception, self.pages.fault)
        routes.add_url_rule("/page", "page", self.page)
        routes.add_url_rule("/form", "form", self.form, methods=["POST"])
        routes.add_url_rule("/in", "in", self.enter, methods=["POST"])
        routes.add_url_rule("/out", "out", self.leave, methods=["POST"])
        routes.add_url_rule("/mine", "mine", self.mine)
        self.app = Flask(__name__, static_folder=None)
        self.app.register_blueprint(routes)

    def page(self) -> Response:
        return Response(self.forms.token())

    def form(self) -> Response:
        return jsonify(self.forms.read("one", optional=("two",)) | self.forms.read_all("many"))

    def enter(self) -> Response:
        response = Response("in")
        self.browser.sign_in(response, self.account)
        return response

    def leave(self) -> Response:
        response = Response("out")
        self.browser.sign_out(response)
        return response

    def mine(self) -> Response:
        found = self.browser.require()
        return found if isinstance(found, Response) else jsonify([found.id, found.account.login])


@pytest.fixture
def kit(clinic: Clinic) -> Kit:
    return Kit(clinic)


@pytest.fixture
def client(kit: Kit) -> FlaskClient:
    return kit.app.test_client()


def test_a_form_from_a_page_of_ours_is_read(client: FlaskClient) -> None:
    token = client.get("/page").text
    answer = client.post("/form", data={"form_token": token, "one": "1 & ü", "two": "", "many": ["a", "b"]})
    assert (answer.status_code, answer.json) == (200, {"one": "1 & ü", "many": ["a", "b"]})
    # The token goes on being good, and a second page of the same browser has the same.
    assert client.get("/page").text == token


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("0" * 64, {}),
        ("ü", {}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
        (None, {"Origin": "https://elsewhere.example.org"}),
        (None, {"Origin": "null"}),
    ],
)
def test_a_form_from_elsewhere_is_refused(client: FlaskClient, token: str | None, headers: dict[str, str]) -> None:
    own = client.get("/page").text
    answer = client.post("/form", data={"form_token": own if token is None else token, "one": "1"}, headers=headers)
    assert answer.status_code == 403
    assert answer.mimetype == "text/html"


def test_the_token_of_another_browser_is_refused(kit: Kit, client: FlaskClient) -> None:
    other = kit.app.test_client().get("/page").text
    client.get("/page")
    assert client.post("/form", data={"form_token": other, "one": "1"}).status_code == 403
    assert kit.app.test_client().post("/form", data={"form_token": other, "one": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"x" * 20_000, FORM, 413),
        (b"one=1", "application/json", 415),
        (b"one=1", "multipart/form-data", 415),
        (b"a=1&" * 300, FORM, 400),
        (b"one=\xff", FORM, 400),
        (b"one=%FF", FORM, 400),
        (b"one=" + b"x" * 9000, FORM, 400),
        (b"one=%00", FORM, 400),
        (b"", FORM, 403),
    ],
)
def test_forms_that_are_none(client: FlaskClient, data: bytes, kind: str, status: int) -> None:
    client.get("/page")
    assert client.post("/form", data=data, content_type=kind).status_code == status


@pytest.mark.parametrize("fields", [{"two": "2"}, {"one": ""}, {"one": ["1", "2"]}])
def test_fields_that_are_missing_or_repeated(client: FlaskClient, fields: dict[str, Any]) -> None:
    token = client.get("/page").text
    assert client.post("/form", data={"form_token": token} | fields).status_code == 400


def test_cookies_are_out_of_reach(kit: Kit, make_clinic: Callable[..., Clinic]) -> None:
    plain = kit.app.test_client().get("/page").headers["Set-Cookie"]
    assert re.fullmatch(r"form=[\w-]{32}; HttpOnly; Path=/; SameSite=Lax", plain)
    behind = Kit(make_clinic(public_url="https://clinic.example.org/ehr"))
    sealed = behind.app.test_client().post("/in").headers.getlist("Set-Cookie")
    assert sorted(each.partition("=")[0] for each in sealed) == ["__Host-form", "__Host-session"]
    assert all(each.endswith("; Secure; HttpOnly; Path=/; SameSite=Lax") for each in sealed)


def test_the_origin_is_that_of_the_public_address(make_clinic: Callable[..., Clinic]) -> None:
    client = Kit(make_clinic(public_url="https://clinic.example.org/ehr")).app.test_client()
    base = "https://10.0.0.1"
    token = client.get("/page", base_url=base).text
    for origin, status in (("https://clinic.example.org", 200), ("http://clinic.example.org", 403), ("https://10.0.0.1", 403)):
        data = {"form_token": token, "one": "1"}
        assert client.post("/form", base_url=base, data=data, headers={"Origin": origin}).status_code == status


def test_a_browser_signs_in_and_out(kit: Kit, client: FlaskClient) -> None:
    away = client.get("/mine?a=1&b=2")
    assert (away.status_code, away.headers["Location"]) == (303, "/sign-in?next=/mine%3Fa%3D1%26b%3D2")
    before = client.get("/page").text
    client.post("/in")
    assert kit.account.login in client.get("/mine").text
    # What was open before the sign-in is no form of the session.
    assert client.post("/form", data={"form_token": before, "one": "1"}).status_code == 403
    secret = client.get_cookie("session")
    assert secret is not None
    client.post("/out")
    assert client.get_cookie("session") is None
    client.set_cookie("session", secret.value)
    assert client.get("/mine").status_code == 303


def test_a_session_in_a_browser_ends_like_every_session(clinic: Clinic, kit: Kit, client: FlaskClient) -> None:
    accounts, now = clinic.sign_in.accounts, clinic.clock.now
    endings: list[Callable[[], object]] = [
        lambda: accounts.set_password(kit.account, "another password", now()),
        lambda: clinic.change(kit.account, roles=["staff"]),
        lambda: accounts.set_state(kit.account.id, "disabled", now()),
        lambda: clinic.sign_in.sessions.end(clinic.sign_in.sessions.of(kit.account.id, now())[0].id, kit.account.id, "revoked", now()),
    ]
    for end in endings:
        kit.account = clinic.account()
        client.post("/in")
        assert client.get("/mine").status_code == 200
        end()
        assert client.get("/mine").status_code == 303


def test_the_idle_limit_begins_anew_with_use_and_the_whole_does_not(clinic: Clinic, kit: Kit, client: FlaskClient) -> None:
    client.post("/in")

    def last_seen() -> object:
        return clinic.sign_in.sessions.of(kit.account.id, clinic.clock.now())[0].last_seen

    first = last_seen()
    clinic.clock.seconds += 59
    client.get("/mine")
    assert last_seen() == first
    clinic.clock.seconds += 1
    client.get("/mine")
    assert last_seen() != first
    # A doctor: one hour without use, twelve in all.
    for _ in range(14):
        clinic.clock.seconds += 3000
        assert client.get("/mine").status_code == 200
    clinic.clock.seconds += 1140
    assert client.get("/mine").status_code == 303
    client.post("/in")
    clinic.clock.seconds += 3600
    assert client.get("/mine").status_code == 303


def test_a_refresh_token_is_no_secret_of_a_browser_and_the_other_way(clinic: Clinic, kit: Kit, client: FlaskClient) -> None:
    client.set_cookie("session", str(clinic.session(kit.account)["refresh_token"]))
    assert client.get("/mine").status_code == 303
    client.post("/in")
    secret = client.get_cookie("session")
    assert secret is not None
    assert clinic.post("refresh", refresh_token=secret.value).status_code == 401


def test_signing_in_anew_ends_the_session_before(clinic: Clinic, kit: Kit, client: FlaskClient) -> None:
    client.post("/in")
    client.post("/in")
    assert len(clinic.sign_in.sessions.of(kit.account.id, clinic.clock.now())) == 1


def test_a_password_that_has_to_be_changed_leads_to_that_alone(clinic: Clinic, kit: Kit, client: FlaskClient) -> None:
    kit.account = clinic.account(password_expired=True)
    client.post("/in")
    assert client.get("/mine").headers["Location"] == "/account/password?next=/mine"


@pytest.mark.parametrize(
    "text",
    [None, "", "x", "//x.example", "/\\x.example", "https://x.example", "/a\\b", "/a b", "/a\nb", "/\t/x.example", "javascript:1", "/" + "x" * 8000],
)
def test_nothing_leads_elsewhere(text: str | None, kit: Kit) -> None:
    assert local_path(text) is None
    with pytest.raises(ValueError, match="not a path"):
        kit.pages.redirect(text or "")


def test_a_page_may_name_where_its_form_leads_to(kit: Kit) -> None:
    with kit.app.test_request_context():
        policy = kit.pages.render("home.html", forms_to=["https://app.example.org:8443", "app.example:"]).headers["Content-Security-Policy"]
        assert "form-action 'self' https://app.example.org:8443 app.example:;" in policy
        for origin in ("https://a.example; script-src *", "*", "https://a.example/path", "'unsafe-inline'", ""):
            with pytest.raises(ValueError, match="not an origin"):
                kit.pages.render("home.html", forms_to=[origin])


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604.1", "Safari on iPhone"),
        ("App: Chrome/ on Linux", "App: Chrome/ on Linux"),
        ("curl/8.0", "curl/8.0"),
        ("x" * 200, "x" * 60),
        ("", "An unknown program"),
    ],
)
def test_sessions_are_named_for_their_owner(agent: str, name: str) -> None:
    assert browser_name(agent) == name


def test_the_templates_are_all_escaped_and_without_script_and_style() -> None:
    folder = Path(__file__).parents[2] / "fhir_server" / "web" / "templates"
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if path.name == "pay.html":
            # The card's fields are the gateway's own; both scripts come by their addresses, which the policy of that page names.
            text, count = re.subn(r'<script src="[^"]+"></script>', "", text)
            assert count == 2
        assert not re.search(r"<script|<style|style=|\son[a-z]+=|javascript:|\|\s*safe|https?://", text), path
