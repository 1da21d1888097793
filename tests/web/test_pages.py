from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pyotp
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.accounts.invitations import Invitations
from fhir_server.access.accounts.notifications import Wanted, wanted

from .conftest import PASSWORD, Clinic

NEW = "a word of my own"


class Forms(HTMLParser):
    """The forms of a page, each as its action and fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((given["action"], {}))
        elif tag == "input" and self.found:
            self.found[-1][1][given["name"]] = given.get("value", "")


class Person:
    """Somebody with a browser, at an address of their own."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.client: FlaskClient = clinic.app.test_client()
        self.page: TestResponse = self.get("/")

    def get(self, path: str, **headers: str) -> TestResponse:
        self.page = self.client.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": self.clinic.address})
        return self.page

    def send(self, action: str, status: int = 303, /, **fields: str | list[str]) -> TestResponse:
        """Fills the form in that the open page has for an action, sends it, and follows where it leads."""
        forms = [known for at, known in Forms(self.page.text).found if at == action]
        assert forms, (action, self.page.text)
        where = {"REMOTE_ADDR": self.clinic.address}
        answer = self.client.post(action, data=forms[0] | fields, environ_overrides=where)
        assert answer.status_code == status, answer.text
        self.page = self.client.get(answer.headers["Location"], environ_overrides=where) if status == 303 else answer
        return answer

    def sign_in(self, account: Account, password: str = PASSWORD, at: str = "/sign-in") -> TestResponse:
        self.get(at)
        self.send("/sign-in", login=account.login, password=password)
        assert account.email is not None
        return self.send("/sign-in/code", code=self.clinic.outside.mailed_code(account.email))

    @property
    def said(self) -> str:
        (text,) = re.findall(r'<div class="notice [^>]*>(.*?)</div>', self.page.text, re.DOTALL)
        return html.unescape(str(text))


@pytest.fixture
def person(clinic: Clinic) -> Person:
    return Person(clinic)


def wrong(code: str) -> str:
    return "000000" if code != "000000" else "000001"


def told(clinic: Clinic, to: str) -> str:
    notice = clinic.outside.mails.get(timeout=10)
    assert notice["To"] == to
    return str(notice["Subject"])


def test_from_home_to_the_account_and_out(clinic: Clinic, person: Person) -> None:
    account = clinic.account("doctor", practitioner="d7")
    assert "/sign-in" in person.page.text
    assert person.get("/account").headers["Location"] == "/sign-in?next=/account"
    person.get("/sign-in?next=/account")
    person.send("/sign-in", login=account.login, password=PASSWORD)
    # One way to have a code: it is on its way already, to a place that is told in part.
    assert account.login not in person.page.text
    assert "@example.org" in person.page.text
    code = clinic.outside.mailed_code(account.login)
    person.send("/sign-in/code", 401, code=wrong(code))
    assert "not right" in person.said
    person.send("/sign-in/code", code=f" {code[:3]} {code[3:]} ")
    assert person.page.request.path == "/account"
    assert account.login in person.page.text
    assert "Practitioner/d7" in person.page.text
    assert "this browser" in person.page.text
    assert account.login in person.get("/").text
    person.send("/sign-out")
    assert person.said == "You are signed out."
    assert person.get("/account").status_code == 303


def test_a_wrong_password_and_an_unknown_login_look_the_same(clinic: Clinic, person: Person) -> None:
    known = clinic.account().login

    def answers(login: str) -> list[Any]:
        clinic.address = login
        found: list[Any] = []
        for _ in range(6):
            person.get("/sign-in")
            status = 429 if len(found) == 5 else 401
            answer = person.send("/sign-in", status, login=login, password="wrong password")
            found.append((answer.text.replace(login, ""), answer.headers.get("Retry-After")))
        return found

    assert answers(known) == answers("nobody@example.org")
    assert "Try again in 15 minutes." in person.said


def test_of_several_ways_one_is_chosen(clinic: Clinic, person: Person) -> None:
    account = clinic.account(phone="+49 170 1234567")
    person.get("/sign-in")
    person.send("/sign-in", login=account.login, password=PASSWORD)
    assert clinic.outside.mails.empty()
    assert 'name="code"' not in person.page.text
    person.send("/sign-in/code/send", method="sms")
    assert "567" in person.page.text
    assert "Another code can be sent in 30 seconds." in person.page.text
    text = clinic.outside.texts.get(timeout=10)["text"]
    person.send("/sign-in/code/send", 429, method="email")
    assert person.said == "A code was sent a moment ago; wait before the next. Try again in 30 seconds."
    person.send("/sign-in/code/send", 422, method="pigeon")
    person.send("/sign-in/code/send", 400)
    person.send("/sign-in/code", code=text[:6])
    assert person.page.request.path == "/"


def test_too_many_wrong_codes_or_too_long_begin_again(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    for how in ("wrong", "late"):
        person.get("/sign-in?next=/account")
        person.send("/sign-in", login=account.login, password=PASSWORD)
        code = clinic.outside.mailed_code(account.login)
        if how == "late":
            clinic.clock.seconds += 600
        for number in range(5 if how == "wrong" else 1):
            assert "begin again" not in person.page.text, number
            person.send("/sign-in/code", 401, code=wrong(code))
        assert "Please begin again." in person.said
        # The form is that for login and password, and still leads to where it was to lead.
        assert 'name="password"' in person.page.text
        assert 'name="next" value="/account"' in person.page.text


def test_the_code_page_without_a_sign_in_begins_one(person: Person) -> None:
    assert person.get("/sign-in/code").status_code == 401
    assert 'name="password"' in person.page.text


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example\t", "javascript:alert(1)"])
def test_a_sign_in_leads_nowhere_else(clinic: Clinic, person: Person, elsewhere: str) -> None:
    account = clinic.account()
    person.get("/sign-in")
    person.send("/sign-in", login=account.login, password=PASSWORD, next=elsewhere)
    answer = person.send("/sign-in/code", code=clinic.outside.mailed_code(account.login), next=elsewhere)
    assert answer.headers["Location"] == "/"
    assert person.client.get("/sign-in", query_string={"next": elsewhere}).headers["Location"] == "/account"


def test_what_an_app_asked_for_is_gone_on_to_by_a_page_of_its_own(clinic: Clinic, person: Person) -> None:
    wanted = "/oauth/authorize?client_id=a&state=%22x%22&scope=launch/patient"
    account = clinic.account()
    person.client.get("/sign-in", query_string={"next": wanted})
    person.page = person.client.get("/sign-in", query_string={"next": wanted})
    person.send("/sign-in", login=account.login, password=PASSWORD)
    code = clinic.outside.mailed_code(account.login)
    answer = person.send("/sign-in/code", 200, code=code)
    assert f'http-equiv="refresh" content="0; url={html.escape(wanted)}"' in answer.text


def test_signing_out_takes_a_form(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    person.sign_in(account)
    assert person.get("/sign-out").status_code == 200
    assert person.client.post("/sign-out").status_code == 415
    assert person.client.post("/sign-out", data={"next": "/"}).status_code == 403
    assert person.get("/account").status_code == 200
    person.get("/sign-out")
    person.send("/sign-out", next="/account")
    assert person.page.request.full_path == "/sign-in?done=signed-out&next=/account"


PAGES = ("/", "/sign-in", "/sign-in/code", "/register", "/register/confirm", "/forgot", "/reset", "/invitation", "/nowhere", "/sign-out")
OWN = ("/", "/account", "/account/password", "/account/app", "/account/email", "/account/phone", "/sign-out")


def examine(page: TestResponse) -> None:
    assert page.mimetype == "text/html"
    policy = page.headers["Content-Security-Policy"]
    assert policy == ("default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
    assert (page.headers["X-Content-Type-Options"], page.headers["Cache-Control"]) == ("nosniff", "no-store")
    assert (page.headers["Referrer-Policy"], page.headers["X-Frame-Options"]) == ("same-origin", "DENY")
    text = page.text
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert len(re.findall(r"<h1>", text)) == 1
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    (title,) = re.findall(r"<title>(.*?) \u2013 Clinic</title>", text)
    assert title
    assert not re.search(r"<script|\sstyle=|\son\w+=", text)
    assert not re.search(r'(?:src|href|action)="(?!/|#|data:|otpauth:)', text)
    identities = re.findall(r'\sid="([^"]+)"', text)
    assert len(identities) == len(set(identities))
    for attributes in re.findall(r"<input([^>]*)>", text):
        if 'type="hidden"' in attributes or attributes.endswith("hidden"):
            continue
        (identity,) = re.findall(r'\sid="([^"]+)"', attributes)
        assert f'<label for="{identity}">' in text
        assert all(each in identities for each in " ".join(re.findall(r'aria-describedby="([^"]+)"', attributes)).split())
    for action, fields in Forms(text).found:
        assert fields.get("form_token"), action


@pytest.mark.parametrize("path", PAGES)
def test_pages_for_everybody(person: Person, path: str) -> None:
    page = person.get(path)
    if path != "/sign-out":
        examine(page)
    assert person.client.head(path).status_code == page.status_code


def test_pages_for_those_who_are_signed_in(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    for path in OWN[1:-1]:
        assert person.get(path).headers["Location"] == f"/sign-in?next={path}"
    person.sign_in(account)
    for path in OWN:
        examine(person.get(path))
    person.get("/account/app")
    person.send("/account/app")
    examine(person.page)
    for action in re.findall(r'action="([^"]+)"', "".join(person.get(path).text for path in OWN)):
        assert clinic.app.test_client().post(action, data={"form_token": "x"}).status_code == 403, action


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 405), ("TRACE", "/account", 405), ("GET", "/sign-in/", 404), ("DELETE", "/account", 405), ("GET", "/pages/x.css", 404)],
)
def test_other_addresses_and_methods_have_a_page_too(person: Person, method: str, path: str, status: int) -> None:
    answer = person.client.open(path, method=method)
    assert answer.status_code == status
    assert ("Allow" in answer.headers) == (status == 405)
    examine(answer)


def test_the_style_sheet_is_kept_for_good(person: Person) -> None:
    (path,) = re.findall(r'<link rel="stylesheet" href="([^"]+)">', person.page.text)
    answer = person.client.get(path)
    assert (answer.mimetype, answer.headers["Cache-Control"]) == ("text/css", "public, max-age=31536000, immutable")
    assert b"url(" not in answer.data
    assert b"@import" not in answer.data


def test_a_fault_of_the_server_tells_its_number_alone(clinic: Clinic, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    account = clinic.account()
    person.sign_in(account)
    with clinic.store.database.connection() as connection:
        connection.execute("UPDATE account SET roles = '{sorcerer}' WHERE id = %s", (account.id,))
    clinic.clock.seconds += 120
    page = person.get("/account")
    assert page.status_code == 500
    assert "sorcerer" not in page.text
    examine(page)


def test_registering(clinic: Clinic, person: Person) -> None:
    login = "pia@example.org"
    fields = {"login": login, "email": login, "password": PASSWORD, "given": "Pia", "family": "Moreau", "birthDate": "1990-05-17"}
    person.get("/register?next=/account")
    for field, value in (("birthDate", "2999-01-01"), ("given", "\u0007"), ("password", "short"), ("email", "nowhere"), ("login", "a b")):
        person.send("/register", 422, **fields | {field: value})
        assert re.search(rf'<input id="{field}"[^>]* aria-describedby="[^"]*fault"[^>]* aria-invalid="true"', person.page.text), field
        # What was typed is still there, but no password.
        assert 'value="Moreau"' in person.page.text
        assert value == "short" or PASSWORD not in person.page.text
    person.send("/register", 400, **fields | {"family": ""})
    person.send("/register", 200, **fields)
    examine(person.page)
    code = clinic.outside.mailed_code(login)
    person.send("/register/confirm", 401, code=wrong(code))
    assert f'value="{login}"' in person.page.text
    person.send("/register/confirm", code=code)
    assert person.said == "Your account is ready. Sign in with it now."
    account = clinic.sign_in.accounts.by_login(login)
    assert account is not None
    person.send("/sign-in", login=login, password=PASSWORD)
    person.send("/sign-in/code", code=clinic.outside.mailed_code(login))
    assert person.page.request.path == "/account"
    assert f"Patient/{account.patient}" in person.page.text


def test_a_login_that_is_taken_looks_the_same(clinic: Clinic, person: Person) -> None:
    fields = {"email": "pio@example.org", "password": PASSWORD, "given": "Pio", "family": "Moreau", "birthDate": "1990-05-17"}
    found = []
    for login in (clinic.account().login, "pio@example.org"):
        person.get("/register")
        found.append(person.send("/register", 200, login=login, **fields).text.replace(login, ""))
    assert found[0] == found[1]
    assert told(clinic, "pio@example.org") == "Your code to register"


def test_a_forgotten_password(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    person.get("/forgot")
    unknown = person.send("/forgot", 200, login="nobody@example.org").text
    person.get("/forgot")
    assert person.send("/forgot", 200, login=account.login).text.replace(account.login, "") == unknown.replace("nobody@example.org", "")
    examine(person.page)
    code = clinic.outside.mailed_code(account.login)
    person.send("/reset", 401, code=wrong(code), new=NEW)
    person.send("/reset", 422, code=code, new="short")
    person.send("/reset", code=code, new=NEW)
    assert person.said == "Your password is changed. Sign in with the new one."
    assert told(clinic, account.login) == "Your password was changed"
    person.sign_in(account, NEW)


def test_a_forgotten_password_of_somebody_with_an_authenticator_app(clinic: Clinic, person: Person) -> None:
    account, secret = clinic.account(), pyotp.random_base32()
    clinic.sign_in.accounts.offer_totp(account, secret)
    clinic.sign_in.accounts.accept_totp(account)
    person.get("/forgot")
    person.send("/forgot", 200, login=account.login)
    code, shown = clinic.outside.mailed_code(account.login), pyotp.TOTP(secret).at(int(clinic.clock.seconds))
    assert "authenticator app" in person.send("/reset", 401, code=code, new=NEW).text
    examine(person.page)
    person.send("/reset", code=code, totp=f"{shown[:3]} {shown[3:]}", new=NEW)
    assert person.said == "Your password is changed. Sign in with the new one."
    assert told(clinic, account.login) == "Your password was changed"


def test_changing_the_password_ends_the_other_sessions_and_not_this_one(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    person.sign_in(account)
    other = Person(clinic)
    other.sign_in(account)
    person.get("/account/password")
    person.send("/account/password", 403, current="wrong password", new=NEW)
    person.send("/account/password", 422, current=PASSWORD, new=PASSWORD)
    before = person.client.get_cookie("session")
    person.send("/account/password", current=PASSWORD, new=NEW)
    assert person.said == "Your password is changed, and all other sessions have ended."
    assert before != person.client.get_cookie("session")
    assert other.get("/account").status_code == 303


def test_a_password_from_somebody_else_has_to_be_changed_first(clinic: Clinic, person: Person) -> None:
    account = clinic.account(password_expired=True)
    person.sign_in(account, at="/sign-in?next=/account/email")
    assert person.page.request.full_path == "/account/password?next=/account/email"
    assert "given to you by somebody else" in person.page.text
    for path in ("/account", "/account/app"):
        assert person.get(path).headers["Location"] == f"/account/password?next={path}"
    person.get("/account/password?next=/account/email")
    person.send("/account/password", current=PASSWORD, new=NEW)
    assert person.page.request.path == "/account/email"


def test_sessions_are_ended_one_by_one_and_all_at_once(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    others = [Person(clinic) for _ in range(3)]
    for each in (person, *others):
        each.sign_in(account)
    stranger = clinic.account()
    theirs = clinic.session(stranger)["session"]
    person.get("/account")
    newest = clinic.sign_in.sessions.of(account.id, clinic.clock.now())[-1].id
    assert "End this session" in person.page.text
    person.send("/account/sessions", session=theirs)
    assert len(clinic.sign_in.sessions.of(stranger.id, clinic.clock.now())) == 1
    sessions = [each.id for each in clinic.sign_in.sessions.of(account.id, clinic.clock.now())]
    assert newest in sessions
    shown = re.findall(r'name="session" value="([^"]+)"', person.page.text)
    person.send("/account/sessions", session=shown[0])
    assert person.said == "The session has ended."
    assert len(clinic.sign_in.sessions.of(account.id, clinic.clock.now())) == 3
    person.send("/account/sessions", others="yes")
    assert len(clinic.sign_in.sessions.of(account.id, clinic.clock.now())) == 1
    assert [each.get("/account").status_code for each in (person, *others)] == [200, 303, 303, 303]


def test_an_authenticator_app(clinic: Clinic, person: Person) -> None:
    account = clinic.account()
    person.sign_in(account)
    person.get("/account/app")
    person.send("/account/app")
    (uri,) = re.findall(r'href="(otpauth://[^"]+)"', person.page.text)
    totp = pyotp.parse_uri(html.unescape(uri))
    assert isinstance(totp, pyotp.TOTP)
    assert 'src="data:image/svg+xml' in person.page.text
    code = totp.at(int(clinic.clock.seconds))
    person.send("/account/app/confirm", 422, code=wrong(code))
    person.send("/account/app/confirm", code=code)
    assert "authenticator app is set up" in person.said
    person.send("/sign-out")
    clinic.clock.seconds += 30
    person.send("/sign-in", login=account.login, password=PASSWORD)
    # The app has the code; mail is another way, and none was sent.
    assert "Open your authenticator app" in person.page.text
    assert clinic.outside.mails.empty()
    person.send("/sign-in/code", code=totp.at(int(clinic.clock.seconds)))
    assert person.page.request.path == "/"


@pytest.mark.parametrize(("kind", "value"), [("email", "other@example.org"), ("phone", "+49 170 7654321")])
def test_another_address_or_number_is_proved_first(clinic: Clinic, person: Person, kind: str, value: str) -> None:
    account = clinic.account()
    person.sign_in(account)
    person.get(f"/account/{kind}")
    person.send(f"/account/{kind}", 403, **{kind: value, "current": "wrong password"})
    person.send(f"/account/{kind}", 422, **{kind: "?", "current": PASSWORD})
    person.send(f"/account/{kind}", **{kind: value, "current": PASSWORD})
    assert value in person.page.text
    code = clinic.outside.mailed_code(value) if kind == "email" else clinic.outside.texts.get(timeout=10)["text"][:6]
    person.send(f"/account/{kind}/confirm", 422, code=wrong(code))
    person.send(f"/account/{kind}/confirm", code=code)
    assert value in person.page.text
    assert told(clinic, account.login) == f"Your {'e-mail address' if kind == 'email' else 'telephone number'} was changed"


def test_without_a_gateway_the_page_says_who_has_the_code(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(smtp_url=None, sms_url=None)
    for demo, words in ((True, "fhir-server user otp"), (False, "ask for one at the clinic")):
        account = clinic.account(demo=demo)
        person = Person(clinic)
        person.get("/sign-in")
        person.send("/sign-in", login=account.login, password=PASSWORD)
        assert words in person.page.text
        code = clinic.sign_in.code_for_shell(account)
        assert code is not None
        person.send("/sign-in/code", code=code)
        assert account.login in person.page.text


def test_an_invitation_is_taken_up(clinic: Clinic, person: Person) -> None:
    account = clinic.account(state="invited")
    invitations = Invitations(clinic.sign_in.desk, "https://example.org/clinic")
    with clinic.store.database.connection() as connection:
        letter = invitations.write(connection, account, clinic.clock.now())
    assert letter is not None
    invitations.send(letter)
    mail = clinic.outside.mails.get(timeout=10)
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    lines = text.decode().splitlines()
    assert account.login in lines[0]
    assert {letter.code, "https://example.org/clinic/invitation"} <= set(lines)
    assert letter.code not in repr(letter)
    person.get("/invitation")
    examine(person.page)
    person.send("/invitation", 401, login=account.login, code=wrong(letter.code), new=NEW)
    person.send("/invitation", 422, code=letter.code, new="short")
    examine(person.page)
    person.send("/invitation", code=letter.code, new=NEW)
    assert person.said == "Your account is ready. Sign in with your password now."
    person.sign_in(account, NEW)


def test_behind_a_path_of_a_proxy_links_lead_through_it(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(public_url="https://example.org/clinic")
    client = clinic.app.test_client()
    for path in ("/", "/sign-in", "/register"):
        assert not re.search(r'(?:href|action)="/(?!clinic/)', client.get(path).text)
    assert client.get("/account").headers["Location"] == "/clinic/sign-in?next=/account"


def test_which_messages_are_welcome_is_chosen_on_the_page(clinic: Clinic, person: Person) -> None:
    account = clinic.account("patient")
    person.sign_in(account)

    def ticked() -> list[str]:
        boxes = re.findall(r'<input type="checkbox" id="by-(\w+)"[^>]*?( checked)?>', person.get("/account").text)
        return [name for name, checked in boxes if checked]

    assert ticked() == ["email"]
    assert "as soon as you have added a telephone number" in person.page.text
    for email, sms, kept in (("", "yes", ["sms"]), ("", "", []), ("yes", "yes", ["email", "sms"])):
        person.send("/account/messages", email=email, sms=sms)
        assert person.said == "From now on messages reach you as you have chosen."
        assert ticked() == kept
        assert wanted(clinic.store.database, account.id) == Wanted(email=bool(email), sms=bool(sms))
    query = "SELECT actor, fhir_user, address FROM audit_event WHERE resource = %s AND kind = 'account-change' AND action = 'U'"
    with clinic.store.database.connection() as connection:
        rows = connection.execute(query, (account.id,)).fetchall()
    assert rows == [(account.login, "Patient/p1", clinic.address)] * 3


def test_which_messages_are_welcome_is_chosen_by_a_form_of_ours_alone(clinic: Clinic, person: Person) -> None:
    account = clinic.account("patient")
    person.sign_in(account)
    assert person.client.post("/account/messages", data={"sms": "yes"}).status_code == 403
    assert clinic.app.test_client().post("/account/messages", data={"sms": "yes"}).status_code == 403
    assert wanted(clinic.store.database, account.id) == Wanted()


ACTIONS = (
    "/sign-in",
    "/sign-in/code",
    "/sign-in/code/send",
    "/sign-out",
    "/register",
    "/register/confirm",
    "/forgot",
    "/reset",
    "/account/messages",
    "/account/sessions",
    "/account/password",
    "/account/app",
    "/account/app/confirm",
    "/account/email",
    "/account/email/confirm",
    "/account/phone",
    "/account/phone/confirm",
)
NAMES = (
    "login",
    "password",
    "code",
    "next",
    "method",
    "email",
    "given",
    "family",
    "birthDate",
    "phone",
    "new",
    "current",
    "session",
    "others",
    "sms",
    "totp",
)


@pytest.fixture(scope="module")
def insider(make_clinic: Callable[..., Clinic]) -> Person:
    clinic = make_clinic(auth_address_limit=1_000_000)
    found = Person(clinic)
    found.sign_in(clinic.account())
    return found


@given(action=st.sampled_from(ACTIONS), fields=st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), max_size=60)))
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_nothing_is_a_fault_of_the_server(insider: Person, action: str, fields: dict[str, str]) -> None:
    (token, *_) = [known["form_token"] for _, known in Forms(insider.get("/forgot").text).found]
    if action == "/sign-out":
        # The session is needed for the next one.
        fields["form_token"] = "none"
    answer = insider.client.post(action, data={"form_token": token} | fields)
    assert answer.status_code < 500, answer.text
    assert answer.status_code != 303 or answer.headers["Location"].startswith("/")


@pytest.mark.parametrize("value", ["", "x", "x" * 4000, '"\\000"', '"\\303\\050"', "\xff", "a=b", "%00"])
def test_cookies_that_are_none(clinic: Clinic, value: str) -> None:
    for path, status in (("/", 200), ("/account", 303), ("/sign-in", 200), ("/sign-in/code", 401)):
        cookies = "; ".join(f"{name}={value}" for name in ("session", "form", "challenge"))
        answer = clinic("GET", path, headers={"Cookie": cookies})
        assert answer.status_code in {status, 400}, (path, answer.text)


def test_password_managers_find_the_page_to_change_it(person: Person) -> None:
    assert person.get("/.well-known/change-password").headers["Location"] == "/account/password"


def test_what_people_type_is_text_and_no_markup(clinic: Clinic, person: Person) -> None:
    mark = '"><img/src=x>'
    pages = (("/sign-in", 401), ("/forgot", 200), ("/register/confirm", 401), ("/reset", 401), ("/invitation", 401))
    for path, status in pages:
        person.get(path)
        answer = person.send(path, status, login=mark, password="x", code="1", new=NEW)
        assert mark not in answer.text
        assert html.escape(mark, quote=True).replace("&quot;", "&#34;") in answer.text
    assert mark not in person.client.get("/sign-in", query_string={"next": f"/{mark}", "done": mark}).text
