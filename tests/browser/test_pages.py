from __future__ import annotations

import re
import time
import urllib.parse
from typing import Any, Final

import pyotp
import pytest

from .conftest import DESK, PHONE, Visit

OPEN: Final = ("/", "/sign-in", "/register", "/register/confirm", "/forgot", "/reset", "/invitation", "/nowhere")
OWN: Final = ("/", "/account", "/account/password", "/account/app", "/account/email", "/account/phone", "/sign-out")

# Of each text the contrast with what is behind it: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST: Final = """() => {
  const parts = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(at).backgroundColor);
      if (a) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
    if (!own && node.tagName !== 'INPUT') continue;
    const [one, two] = [light(parts(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) poor.push(node.tagName + ' ' + node.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return poor;
}"""


def examine(visit: Visit) -> None:
    """What holds for every page: names for whatever can be used, one main part, no line wider than a phone, contrast in both sets of colours."""
    page = visit.page
    tree = page.locator("body").aria_snapshot()
    assert not re.findall(r"- (?:textbox|button|link|img|heading|checkbox|radio)(?:\s\[[^\]]*\])*:?$", tree, re.MULTILINE), tree
    assert tree.count("- main") == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    for size in (PHONE, DESK):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        # For fingers: https://www.w3.org/TR/WCAG22/#target-size-minimum
        small = "[...document.querySelectorAll('button, input:not([type=hidden]):not([hidden])')].filter(each => each.offsetHeight < 40).length"
        assert page.evaluate(small) == 0
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate(CONTRAST) == [], scheme


def wrong(code: str) -> str:
    return "000000" if code != "000000" else "000001"


def focus(visit: Visit) -> Any:
    return visit.page.evaluate("[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")


def test_a_sign_in_by_keyboard_alone(visit: Visit) -> None:
    account, keyboard, page = visit.server.accounts["doctor"], visit.page.keyboard, visit.page
    visit.open("/account")
    assert page.title() == "Sign in \u2013 Clinic"
    keyboard.press("Tab")
    keyboard.press("Enter")
    assert focus(visit)[0] == "main"
    visit.press_until("login")
    assert focus(visit) == ["login", "solid"]
    keyboard.type(account["login"])
    keyboard.press("Tab")
    keyboard.type("a wrong password")
    keyboard.press("Enter")
    # What is wrong has the focus, so that it is read out.
    page.get_by_role("alert").wait_for()
    assert page.title() == "Not signed in: Sign in \u2013 Clinic"
    assert focus(visit)[0] == "fault"
    visit.press_until("login")
    visit.press_until("password")
    keyboard.type(account["password"])
    keyboard.press("Enter")
    visit.press_until("Send a code by e-mail" + page.locator("button .place").first.inner_text())
    keyboard.press("Enter")
    page.get_by_label("Code").wait_for()
    assert focus(visit)[0] == "code"
    assert page.get_by_label("Code").get_attribute("autocomplete") == "one-time-code"
    code = visit.server.outside.mailed_code(account["email"])
    keyboard.type(wrong(code))
    keyboard.press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "not right" in alert.inner_text()
    assert page.get_by_label("Code").get_attribute("aria-invalid") == "true"
    visit.press_until("code")
    keyboard.type(code)
    keyboard.press("Enter")
    page.get_by_role("heading", name="Your account").wait_for()
    assert page.url == f"{visit.server.base}/account"
    visit.press_until("Sign out")
    keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert page.get_by_role("status").inner_text() == "You are signed out."
    visit.open("/account")
    assert page.get_by_role("heading", name="Sign in").is_visible()


@pytest.mark.parametrize("path", OPEN)
def test_what_everybody_sees(visit: Visit, path: str) -> None:
    visit.open(path)
    examine(visit)


def test_what_those_who_are_signed_in_see(visit: Visit) -> None:
    visit.sign_in("staff")
    for path in OWN:
        visit.open(path)
        examine(visit)


def test_a_sign_in_examined_at_each_step(visit: Visit) -> None:
    account, page = visit.server.accounts["admin"], visit.page
    visit.open("/sign-in")
    page.get_by_label("Login").fill(account["login"])
    page.get_by_label("Password").fill("a wrong password")
    page.get_by_role("button", name="Sign in").click()
    examine(visit)
    page.get_by_label("Password").fill(account["password"])
    page.get_by_role("button", name="Sign in").click()
    examine(visit)
    page.get_by_role("button", name="Send a code by SMS").click()
    examine(visit)
    text = visit.server.outside.texts.get(timeout=10)
    assert text["to"] == account["phone"]
    page.get_by_label("Code").fill(text["text"][:6])
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_text(account["login"]).is_visible()


def test_messages_are_chosen_by_keyboard_on_a_phone(visit: Visit) -> None:
    visit.sign_in("staff")
    page, keyboard = visit.page, visit.page.keyboard
    page.set_viewport_size(PHONE)
    visit.press_until("by-email")
    assert page.get_by_label("By e-mail").is_checked()
    assert not page.get_by_label("By SMS").is_checked()
    keyboard.press("Tab")
    keyboard.press("Space")
    keyboard.press("Tab")
    keyboard.press("Enter")
    assert page.get_by_role("status").inner_text() == "From now on messages reach you as you have chosen."
    examine(visit)
    assert page.get_by_role("group", name="Send them to me").get_by_role("checkbox").count() == 2
    assert page.get_by_label("By e-mail").is_checked()
    page.get_by_label("By SMS").uncheck()
    page.get_by_role("button", name="Save").click()
    assert not page.get_by_label("By SMS").is_checked()


def test_cookies_are_kept_from_scripts_and_from_other_sites(visit: Visit) -> None:
    visit.sign_in("patient")
    cookies = visit.context.cookies()
    assert sorted(each["name"] for each in cookies) == ["form", "session"]
    for each in cookies:
        assert (each["httpOnly"], each["sameSite"], each["path"], each["expires"]) == (True, "Lax", "/", -1)
    assert visit.page.evaluate("document.cookie") == ""


def test_a_form_of_another_site_does_nothing(visit: Visit) -> None:
    visit.sign_in("patient")
    base, page = visit.server.base, visit.page
    for action in ("/sign-out", "/account/sessions", "/account/messages"):
        fields = '<input name="others" value="yes"><input name="form_token" value="x">'
        visit.open_evil(f'<form method="post" action="{base}{action}">{fields}<button>Win</button></form>')
        with page.expect_response(f"{base}{action}") as response:
            page.get_by_role("button", name="Win").click()
        assert response.value.status == 403
        page.get_by_role("heading", name="This is not possible").wait_for()
    visit.open("/account")
    assert page.get_by_role("heading", name="Your account").is_visible()


def test_a_page_is_shown_in_no_frame(visit: Visit) -> None:
    with visit.page.expect_event("requestfailed") as failed:
        visit.open_evil(f'<iframe src="{visit.server.base}/sign-in"></iframe>')
    assert (failed.value.url, failed.value.failure) == (f"{visit.server.base}/sign-in", "net::ERR_BLOCKED_BY_RESPONSE")
    visit.said.clear()


def test_a_patient_registers_with_a_code_from_the_mail(visit: Visit) -> None:
    page, login = visit.page, "noor@example.org"
    visit.open("/")
    page.get_by_role("link", name="Register as a patient").click()
    fields = {"Given name": "Noor", "Family name": "Haddad", "Date of birth": "1988-02-29", "E-mail address": login, "Login": login}
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Password").fill("four words of mine")
    page.get_by_role("button", name="Register").click()
    assert page.get_by_label("Login").input_value() == login
    examine(visit)
    code = visit.server.outside.mailed_code(login)
    page.get_by_label("Code").fill(wrong(code))
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Confirm").click()
    assert page.get_by_role("status").inner_text() == "Your account is ready. Sign in with it now."
    page.get_by_label("Login").fill(login)
    page.get_by_label("Password").fill("four words of mine")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Code").fill(visit.server.outside.mailed_code(login))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Your account").click()
    assert page.get_by_text(re.compile("^Patient/")).is_visible()


def test_a_forgotten_password_and_an_authenticator_app(visit: Visit) -> None:
    page, account = visit.page, visit.server.accounts["patient"]
    visit.open("/sign-in")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Login").fill(account["login"])
    page.get_by_role("button", name="Send a code").click()
    page.get_by_label("Code").fill(visit.server.outside.mailed_code(account["email"]))
    page.get_by_label("New password").fill("another four words")
    page.get_by_role("button", name="Set the password").click()
    assert page.get_by_role("status").inner_text() == "Your password is changed. Sign in with the new one."
    assert visit.server.outside.mails.get(timeout=10)["Subject"] == "Your password was changed"
    account["password"] = "another four words"
    visit.sign_in("patient", "/account/app")
    page.get_by_role("button", name="Set it up").click()
    assert page.get_by_role("img", name="QR code that sets up your authenticator app").is_visible()
    assert page.evaluate("document.querySelector('img').naturalWidth") > 0
    examine(visit)
    uri = page.get_by_role("link", name="Open it in the app").get_attribute("href")
    assert uri is not None
    secret = urllib.parse.parse_qs(urllib.parse.urlsplit(uri).query)["secret"][0]
    assert page.locator("code").inner_text().replace(" ", "") == secret
    page.get_by_label("Code").fill(pyotp.TOTP(secret).at(int(time.time())))
    page.get_by_role("button", name="Finish").click()
    assert "is set up" in page.get_by_role("status").inner_text()
