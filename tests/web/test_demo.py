"""`serve --demo` and `user`, as an operator has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
import requests

PROGRAM = Path(sys.executable).with_name("fhir-server")
ENVIRON = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET", "SMTP_URL", "SMS_URL"}}


def call(*arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, env=ENVIRON, input=text)


@dataclass
class Demo:
    base: str
    data: Path
    log: Path
    accounts: dict[str, dict[str, str]]

    def user(self, *arguments: str, text: str | None = None) -> str:
        done = call("user", *arguments, "--data", self.data, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def post(self, path: str, token: str | None = None, /, **body: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(f"{self.base}/auth/{path}", json=body, headers=headers, timeout=30)

    def get(self, path: str, token: str) -> requests.Response:
        return requests.get(f"{self.base}/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def sign_in(self, login: str, password: str) -> Any:
        challenge = self.post("login", login=login, password=password).json()["challenge"]
        return self.post("otp", challenge=challenge, code=self.user("otp", login)).json()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    data = tmp_path_factory.mktemp("demo") / "data"
    log = data.with_name("serve.log")
    command = [str(PROGRAM), "serve", "--demo", "--data", str(data), "--port", "0", "--mllp-port", "0", "--processes", "2"]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=ENVIRON) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], log.read_text()
            listed = json.loads((data / "demo-accounts.json").read_text())
            yield Demo(words[1].removesuffix("/fhir"), data, log, {each["role"]: each for each in listed})
        finally:
            process.terminate()


def test_the_accounts_are_kept_from_others_and_printed(demo: Demo) -> None:
    assert (demo.data / "demo-accounts.json").stat().st_mode & 0o777 == 0o600
    assert list(demo.accounts) == ["admin", "doctor", "staff", "patient"]
    assert all(set(each) == {"role", "login", "password", "email", "phone"} for each in demo.accounts.values())
    assert all(f"{each['login']:14}password {each['password']}" in demo.log.read_text() for each in demo.accounts.values())


@pytest.mark.parametrize(
    ("role", "fhir_user", "may"),
    [
        ("admin", None, 200),
        ("doctor", "Practitioner/demo-doctor", 200),
        ("staff", "Practitioner/demo-staff", 403),
        ("patient", "Patient/demo-patient", 200),
    ],
)
def test_each_signs_in(demo: Demo, role: str, fhir_user: str | None, may: int) -> None:
    account = demo.accounts[role]
    started = demo.post("login", login=account["login"], password=account["password"]).json()
    assert started["methods"] == ["email", "sms"]
    assert demo.post("otp/send", challenge=started["challenge"], method="email").status_code == 202
    tokens = demo.post("otp", challenge=started["challenge"], code=demo.user("otp", account["login"])).json()
    me = demo.get("auth/me", tokens["access_token"]).json()
    assert me == {"login": account["login"], "roles": [role], "fhirUser": fhir_user, "session": tokens["session"]}
    assert demo.get("fhir/Condition", tokens["access_token"]).status_code == may
    if fhir_user is not None:
        assert demo.get(f"fhir/{fhir_user}", tokens["access_token"]).status_code == 200
    assert demo.post("logout", tokens["access_token"]).status_code == 204
    # Two processes answer; each of them knows.
    assert {demo.get("fhir/Patient", tokens["access_token"]).status_code for _ in range(20)} == {401}


def test_the_doctor_has_a_role_and_the_people_are_valid(demo: Demo) -> None:
    account = demo.accounts["admin"]
    token = demo.sign_in(account["login"], account["password"])["access_token"]
    found = demo.get("fhir/PractitionerRole?practitioner=demo-doctor&active=true", token).json()
    assert found["total"] == 1
    for kind in ("Organization", "Location", "Practitioner", "PractitionerRole", "Patient"):
        for entry in demo.get(f"fhir/{kind}", token).json()["entry"]:
            url = f"{demo.base}/fhir/{kind}/$validate"
            answer = requests.post(url, json=entry["resource"], headers={"Authorization": f"Bearer {token}"}, timeout=30)
            assert [issue for issue in answer.json()["issue"] if issue["severity"] == "error"] == []


def test_an_account_from_the_shell(demo: Demo) -> None:
    login = "desk@example.org"
    password = demo.user("add", login, "--role", "staff", "--email", login)
    assert f"{login}\tactive\tstaff\t-\temail" in demo.user("list").splitlines()
    tokens = demo.sign_in(login, password)
    assert tokens["password_expired"] is True
    assert demo.post("password", tokens["access_token"], current=password, new="a word of my own").status_code == 204
    token = demo.sign_in(login, "a word of my own")["access_token"]
    assert demo.get("fhir/Patient", token).status_code == 200
    secret = demo.post("totp/enroll", token).json()["secret"]
    assert demo.post("totp/confirm", token, code=pyotp.TOTP(secret).now()).status_code == 204
    assert "totp" in demo.post("login", login=login, password="a word of my own").json()["methods"]
    demo.user("reset-otp", login)
    assert demo.get("fhir/Patient", token).status_code == 401
    assert demo.post("login", login=login, password="a word of my own").json()["methods"] == []
    for _ in range(5):
        demo.post("login", login=login, password="wrong password")
    other = demo.user("reset-password", login)
    assert demo.post("login", login=login, password=other).status_code == 429
    demo.user("unlock", login)
    assert demo.post("login", login=login, password=other).status_code == 200
    demo.user("disable", login)
    assert demo.post("login", login=login, password=other).status_code == 401
    assert f"{login}\tdisabled\tstaff\t-\temail" in demo.user("list").splitlines()


def test_what_an_operator_gets_wrong_is_one_line(demo: Demo, tmp_path: Path) -> None:
    given = demo.user("add", "given", "--role", "admin", "--password-stdin", text="a given password\n")
    assert given == ""
    assert "password_expired" not in demo.sign_in("given", "a given password")
    for arguments, words in (
        (("add", "GIVEN", "--role", "admin"), "already"),
        (("add", "x y", "--role", "admin"), "login"),
        (("add", "p", "--role", "patient"), "Patient"),
        (("add", "e", "--role", "admin", "--email", "nowhere"), "e-mail"),
        (("otp", "nobody"), "no account nobody"),
        (("otp", "given"), "waits for a code"),
        (("list", "--data", str(tmp_path / "none")), "no database"),
    ):
        done = call("user", *arguments, *(() if "--data" in arguments else ("--data", demo.data)))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert words in done.stderr
