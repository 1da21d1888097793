from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.accounts import passwords
from fhir_server.access.accounts.accounts import NewAccount, folded
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome

VAULT = Vault("a secret that only the tests know of")
PRINTABLE = st.text(st.characters(exclude_categories=["Cs"]))


@given(PRINTABLE, PRINTABLE)
def test_what_is_sealed_opens_in_its_own_place_only(text: str, place: str) -> None:
    sealed = VAULT.seal(text, place)
    assert VAULT.open(sealed, place) == text
    assert VAULT.open(sealed, place + "x") is None
    assert Vault("another secret of more than 32 bytes").open(sealed, place) is None
    assert VAULT.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), place) is None
    assert VAULT.open(sealed[:5], place) is None
    assert VAULT.seal(text, place) != sealed


def test_a_data_key_opens_what_the_secret_has_sealed_and_seals_itself() -> None:
    keyed, other = (
        Vault("a secret that only the tests know of", f"{name} of more than thirty-two bytes") for name in ("a data key", "another data key")
    )
    before, after = VAULT.seal("text", "place"), keyed.seal("text", "place")
    assert keyed.open(before, "place") == keyed.open(after, "place") == "text"
    assert VAULT.open(after, "place") is None
    assert other.open(after, "place") is None
    moved = Vault("another secret of more than 32 bytes", "a data key of more than thirty-two bytes")
    assert (moved.open(before, "place"), moved.open(after, "place")) == (None, "text")
    fresh = keyed.resealed(before, "place")
    assert fresh is not None
    assert moved.open(fresh, "place") == "text"
    assert keyed.resealed(fresh, "place") is None
    assert keyed.resealed(before, "another place") is None
    assert VAULT.resealed(before, "place") is None
    assert keyed.digest("a") == VAULT.digest("a")


def test_digests_tell_where_parts_end_and_which_secret_made_them() -> None:
    found = {VAULT.digest("ab", "c"), VAULT.digest("a", "bc"), VAULT.digest("abc"), Vault("another secret of more than 32 bytes").digest("abc")}
    assert len(found) == 4
    assert VAULT.digest("ab", "c") in found


def test_passwords_are_argon2id_and_salted(hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    kept = passwords.hashed("correct horse")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept != passwords.hashed("correct horse")
    assert passwords.matches("correct horse", kept)
    assert not passwords.matches("correct horsf", kept)
    assert not passwords.matches("correct horse", None)
    assert not passwords.matches("correct horse", "no hash")
    assert not passwords.is_dated(kept)
    assert passwords.is_dated(kept.replace("m=19456", "m=8192"))


@pytest.mark.parametrize("password", ["", "1234567", "xy" * 128 + "x", "aaaaaaaaaa", "SOMEBODY@example.org"])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(Outcome):
        passwords.check(password, "somebody@example.org")


@pytest.mark.parametrize("password", ["12345678", "xy" * 128, "somebody@example.com"])
def test_passwords_that_can_be(password: str) -> None:
    passwords.check(password, "somebody@example.org")


def test_random_passwords_differ_and_can_be_used() -> None:
    found = {passwords.random_password() for _ in range(100)}
    assert len(found) == 100
    for each in found:
        passwords.check(each, "login")


def test_logins_are_compared_without_capitals_and_forms() -> None:
    assert folded("STRASSE") == folded("straße")
    assert folded("\uff24octor") == folded("Doctor")


def test_nothing_shows_a_password() -> None:
    assert "correct horse" not in repr(NewAccount("a", "correct horse", ("admin",)))
