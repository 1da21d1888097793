from __future__ import annotations

import stat
from dataclasses import fields
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.settings import NAMES, Settings, SetupError, environment

SECRET = "0123456789abcdef0123456789abcdef"


def read(**environ: str) -> Settings:
    return Settings.read({"JWT_SECRET": SECRET, "DATA_KEY": SECRET, **environ}, Path("unused"))


def test_defaults_are_those_of_the_contract() -> None:
    settings = read()
    assert settings.clinic_timezone == ZoneInfo("UTC")
    assert (settings.max_body_mb, settings.max_body) == (64, 64 * 1024 * 1024)
    assert (settings.reference_integrity, settings.profile_check) == (False, "off")
    assert (settings.currency, settings.hold_seconds) == ("EUR", 300)
    assert settings.database_url is None


def test_every_field_has_its_name_in_the_environment() -> None:
    assert {entry.name.upper() for entry in fields(Settings)} - {"DATA"} == set(NAMES)


def test_values_are_read_and_empty_ones_count_as_unset() -> None:
    settings = read(
        CLINIC_TIMEZONE="Europe/Berlin",
        REFERENCE_INTEGRITY="ON",
        PUBLIC_URL="https://fhir.example.org/",
        MLLP_ALLOW="10.0.0.1, 10.0.0.2",
        CURRENCY="",
    )
    assert settings.clinic_timezone == ZoneInfo("Europe/Berlin")
    assert settings.reference_integrity is True
    assert settings.public_url == "https://fhir.example.org"
    assert settings.mllp_allow == ("10.0.0.1", "10.0.0.2")
    assert settings.currency == "EUR"
    assert read(DATABASE_URL="postgres://u@h/d").database_url == read(DATABASE_URL="postgresql://u@h/d").database_url == "postgresql://u@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FHIR_SERVER_PORT", "1"),
        ("CLINIC_TIMEZONE", "Mars/Olympus"),
        ("CLINIC_TIMEZONE", "../../etc/passwd"),
        ("MAX_BODY_MB", "-1"),
        ("MAX_BODY_MB", "0"),
        ("MAX_BODY_MB", "9" * 5000),
        ("MAX_BODY_MB", "٣"),
        ("REFERENCE_INTEGRITY", "maybe"),
        ("PROFILE_CHECK", "on"),
        ("CURRENCY", "euro"),
        ("DATABASE_URL", "mysql://u:hidden@h/d"),
        ("DATABASE_URL", "postgresql://u:hidden@[h/d"),
        ("PUBLIC_URL", "fhir.example.org"),
        ("PUBLIC_URL", "https://fhir.example.org/?a=b"),
        ("JWT_SECRET", "hidden"),
        ("DATA_KEY", "hidden"),
        ("MLLP_TLS_CERT", "/no/such/file"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(**{name: value})
    text = str(caught.value)
    assert name in text
    assert "\n" not in text
    assert "hidden" not in text


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.touch()
    with pytest.raises(SetupError, match="together"):
        read(MLLP_TLS_CERT=str(certificate))


def test_secrets_are_in_no_text() -> None:
    secrets = {
        "DATABASE_URL": "postgresql://u:secret-1@h/d",
        "BROKER_URL": "redis://:secret-2@h",
        "METRICS_TOKEN": "secret-3",
        "PAYMENT_API_KEY": "secret-4",
        "PAYMENT_WEBHOOK_SECRET": "secret-5",
        "SMTP_URL": "smtp://u:secret-6@h",
        "SMS_URL": "https://u:secret-7@h",
    }
    settings = read(**secrets)
    for text in (repr(settings), str(settings.listed())):
        assert SECRET not in text
        assert "secret-" not in text
    listed = dict(settings.listed())
    assert all(listed[name] == "set" for name in secrets)
    assert set(listed) == {"data", *NAMES}


def test_a_secret_is_made_once_and_kept_for_the_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = Settings.read({}, data)
    assert len(first.jwt_secret) >= 43
    assert Settings.read({}, data).jwt_secret == first.jwt_secret
    assert first.data_key is not None
    assert first.data_key != first.jwt_secret
    assert Settings.read({}, data).data_key == first.data_key
    assert sorted(path.name for path in data.iterdir()) == ["data-key", "jwt-secret"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()} == {0o600}
    assert Settings.read({}, tmp_path / "other").jwt_secret != first.jwt_secret


def test_hosts_that_share_a_database_make_no_keys_of_their_own(tmp_path: Path) -> None:
    shared = {"DATABASE_URL": "postgresql://h/d", "JWT_SECRET": SECRET}
    assert Settings.read(shared, tmp_path / "data").data_key is None
    assert not (tmp_path / "data").exists()
    assert Settings.read(shared | {"DATA_KEY": SECRET[::-1]}, tmp_path / "data").data_key == SECRET[::-1]


def test_a_damaged_secret_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "jwt-secret").write_bytes(b"\xff")
    with pytest.raises(SetupError, match="jwt-secret"):
        Settings.read({}, tmp_path)
    (tmp_path / "jwt-secret").write_text("short")
    with pytest.raises(SetupError, match="jwt-secret"):
        Settings.read({}, tmp_path)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made"):
        Settings.read({}, tmp_path / "file" / "data")


def test_the_env_file_lies_under_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("# ours\nexport CURRENCY='CHF'\n\nHOLD_SECONDS=60\nMETRICS_TOKEN=\"a=b\"\n", encoding="utf-8")
    monkeypatch.setenv("HOLD_SECONDS", "90")
    found = environment(tmp_path)
    assert (found["CURRENCY"], found["HOLD_SECONDS"], found["METRICS_TOKEN"]) == ("CHF", "90", "a=b")


def test_a_line_that_is_no_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CURRENCY=EUR\nwhat is this\n", encoding="utf-8")
    with pytest.raises(SetupError, match="line 2"):
        environment(tmp_path)


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=60), max_size=4))
def test_no_value_is_anything_but_taken_or_refused(environ: dict[str, str]) -> None:
    refusal, settings = "", None
    try:
        settings = Settings.read({**environ, "JWT_SECRET": SECRET, "DATA_KEY": SECRET}, Path("unused"))
    except SetupError as error:
        refusal = str(error)
    assert (settings is not None and settings.jwt_secret == SECRET) or any(name in refusal for name in environ)
