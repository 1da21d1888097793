from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher

from fhir_server.access.accounts import passwords
from fhir_server.access.accounts.sign_in import clean

from .conftest import PASSWORD, Clinic


def count(clinic: Clinic, table: str) -> int:
    with clinic.store.database.connection() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def test_what_nobody_needs_any_more_goes(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic()
    account = clinic.account()
    session = clinic.session(account)
    clinic.post("login", login=account.login, password="wrong password")
    clean(clinic.store, clinic.clock.now())
    assert clinic("GET", "/fhir/Patient", token=session["access_token"]).status_code == 200
    assert all(count(clinic, table) for table in ("session", "refresh_token", "challenge", "attempt"))
    clinic.clock.seconds += 40 * 86_400
    clean(clinic.store, clinic.clock.now())
    assert not any(count(clinic, table) for table in ("session", "refresh_token", "challenge", "attempt", "totp_use"))
    assert count(clinic, "account")


def test_no_session_outlives_what_happens_while_it_begins(clinic: Clinic) -> None:
    for number in range(6):
        account = clinic.account()
        challenge = clinic.challenge(account)
        code = clinic.code(challenge, account)
        now = clinic.clock.now()
        changes = (
            lambda account=account, now=now: clinic.sign_in.accounts.set_state(account.id, "disabled", now),
            lambda account=account: clinic.change(account, roles=["staff"]),
            lambda account=account, now=now: clinic.sign_in.accounts.set_password(account, "another password", now),
        )
        with ThreadPoolExecutor(2) as pool:
            signing = pool.submit(clinic.post, "otp", challenge=challenge, code=code)
            changing = pool.submit(changes[number % 3])
        changing.result()
        answer = signing.result()
        if answer.status_code == 200:
            assert answer.json is not None
            claims = clinic("GET", "/auth/me", token=answer.json["access_token"])
            # Begun after the change it is a session of what the account is now; roles are the one change that leaves that open.
            assert claims.status_code == 401 or (claims.json or {}).get("roles") == ["staff"]
        else:
            assert answer.status_code == 401


def test_a_dated_hash_is_made_anew_at_the_next_sign_in(clinic: Clinic) -> None:
    account = clinic.account()
    dated = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    with clinic.store.database.connection() as connection:
        connection.execute("UPDATE account SET password_hash = %s WHERE id = %s", (dated, account.id))
    clinic.session(account)
    found = clinic.sign_in.accounts.by_id(account.id)
    assert found is not None
    assert not passwords.is_dated(found.password_hash)
    assert passwords.matches(PASSWORD, found.password_hash)
