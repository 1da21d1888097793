"""What README and docs say is tried: the commands run, and what they name exists."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import pytest
import requests

from fhir_server import settings as settings_module
from fhir_server.access.tables import account
from fhir_server.cli import root
from fhir_server.clinic.billing.gateway.tables import payment_intent
from fhir_server.clinic.billing.tables import ledger_entry
from fhir_server.clinic.messages.tables import message
from fhir_server.clinic.scheduling.tables import scheduling_setting
from fhir_server.hl7v2.outbound.tables import hl7v2_peer
from fhir_server.hl7v2.tables import hl7v2_message
from fhir_server.search import expression, filters, parse, query
from fhir_server.search.tables import metadata
from fhir_server.settings import Settings
from fhir_server.store import moment, tables
from tests.clinic.billing.gateway.stand_in import KEY, WEBHOOK_SECRET, localstripe
from tests.documents import Served, blocks_of, outputs_of, serving

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Decisions tell how things were; the others how they are.
CURRENT: Final = [page for page in PAGES if page.parent.name != "decisions"]
# These are typed on the demo clinic, each in a shell of its own; the other guides begin with nothing, see test_guides.
TYPED: Final = [ROOT / "README.md", *(ROOT / "docs" / "guide" / f"{name}.md" for name in ("bills", "administering", "telling-others"))]
BLOCKS: Final = [blocks_of(page.read_text(encoding="utf-8")) for page in TYPED]


def text_of(pages: list[Path]) -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def payment() -> Iterator[dict[str, str]]:
    """The settings of a stand-in of the payment gateway."""
    with localstripe() as stripe:
        yield {"PAYMENT_API_KEY": KEY, "PAYMENT_API_BASE": stripe.base, "PAYMENT_WEBHOOK_SECRET": WEBHOOK_SECRET}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, payment: dict[str, str]) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("readme") / "data", "--processes", "2", "--demo", **payment) as made:
        yield made


@pytest.fixture(scope="module")
def outputs(server: Served, payment: dict[str, str]) -> list[str]:
    return [output for blocks in BLOCKS for output in outputs_of(blocks, server, **payment)]


def output_of(outputs: list[str], words: str) -> str:
    (found,) = [output for block, output in zip(chain.from_iterable(BLOCKS), outputs, strict=True) if words in block]
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/metadata", "FHIR 4.0.1\n"),
        ('"Chidi"', '"birthDate": "1990-05-17"'),
        ("name=okaf", '"total": 1'),
        ("load examples", "71 resources of 3 files"),
        ("_has:MedicationRequest", '"family": "Rivera"'),
        ("gt80000", '"total": 24'),
        ("patient.name=rivera&_summary", '"total": 45'),
        ("_explain=true", '"valueString": "sp_'),
        ("_count=20", "20 observations\n20 observations\n5 observations\n"),
        ("json-patch+json", '"versionId":"2"'),
        ("/_history?", '"total": 2'),
        ("urn:uuid", '"status":"201 Created","location":"Observation/'),
        ("fhir+xml", '<family value="Rivera"/>'),
        ("femail", '"Patient.birthDate"'),
        ("mktemp", "Practitioner.ndjson"),
        ("fhir-server backup", "brings it back"),
        ("$AUTH/me", '"fhirUser": "Practitioner/demo-doctor"'),
        ("totp/enroll", "otpauth://totp/"),
        ("/logout", "401\n"),
        ("59284-0", "404\n"),
        ("decide deny", "404\n200\n"),
        ("X-Break-Glass", "200\n"),
        ("why-denied", "consent False "),
        ("why-denied", "\n200\n"),
        ("booking demo-patient", "Practitioner/demo-doctor is taken from 2031-03-03T"),
        ("Appointment?_id=$BOOKED", "An Appointment that is booked cannot become fulfilled"),
        ("WAITS=", '"valueInteger":1'),
        ("for EVENT in", "arrived\nin-progress\nfinished\n"),
        ("scope board", "event: board\n"),
        ("FREE=", "pending\nbooked\n"),
        ("TODAY=", "in-progress\n"),
        ("prescribe()", "an allergy to Penicillin is recorded"),
        ("happens complete", "active\nactive\nproposed\nfinished\n"),
        ('"a child"', "somebody 95.20 True\na child 47.60 None\n"),
        ("$DRAFT/\\$issue", "-000001 issued {'value': 95.2, 'currency': 'EUR'}\n"),
        ("$DRAFT/\\$issue", '"total":1'),
        ("/\\$credit", "stays as it is; it is corrected by $credit"),
        ("/\\$credit", "-000001 -11.9\n"),
        ('valueCode": "cash"', "83.3 paid, 16.7 change\nbalanced\n"),
        ('valueCode": "cash"', "'expected': 283.3, 'counted': 283.3, 'difference': 0.0"),
        ("payment_intents/", "It is paid\nbalanced\n"),
        ("/\\$statement", "%PDF-1.7\n%PDF-1.7\n"),
        ("$SHARED/\"'$issue'", "{'amount': 76.16, 'patient': 19.04, 'due': 76.16}\n"),
        ("record-response", "complete\nissued\n"),
        ("MedicationRequest/$SLIP", "%PDF-1.7\nprescription\nprescription, copy\n"),
        ("type=rest", '"code": "110153"'),
        ("access-report", "Patient/"),
        ("audit verify", " events hold, head "),
        ('"Growth Chart"', '"token_endpoint_auth_method": "none"'),
        ("code_challenge_method=S256", "/sign-in?next=/oauth/authorize"),
        ("/oauth/launch", "http://127.0.0.1:3000/launch?iss=http"),
        ("client_assertion", "system/Patient.rs system/Observation.rs\n"),
        ("[stone_av]", "Observation.category:VSCat is needed, at least 1 of it; there are 0"),
        ("/dev/tcp/", "MSA|AA|1\n"),
        ("identifier=4711", '"total": 1'),
        ("--scope hl7v2", "MSA|AA|2\n"),
        ("$AUTH/invitation", "active\n"),
        ("If-Match: $ETAG", "['doctor']\n"),
        ("sessions/revoke", '{"revoked": '),
        ("audit/verify", "roles staff -> doctor"),
        ("first() {", "MSA|AE|3\nPID 1, field 3: The patient has no identifier"),
        ('message["raw"]', "\nPatient DiagnosticReport Observation\n"),
        ("messages/$WAITING/replay", "processed\n"),
        ("messages/replay", '"left": 0'),
        ("reports/revenue", "doctor,name,currency,invoices,credit_notes,"),
        ("reports/revenue", "\nPractitioner/demo-doctor-5,Dr. Chidi Okonkwo,EUR,"),
        ("reports/revenue", "\nlab-turnaround by ordered, collected\n"),
        ("notifications/templates/preview", "{'alphabet': 'GSM-7', "),
        ("notifications/run-due", "21:00\n0\n"),
        ('"rest-hook"', "active\n0\n"),
        ('cat "$PEER/got"', "|SIU^S12^SIU_S12|"),
        ("hl7v2/outbox?peer", "SIU^S12 Appointment delivered\n"),
    ],
)
def test_the_first_five_minutes(outputs: list[str], words: str, expected: str) -> None:
    assert expected in output_of(outputs, words)


def test_the_two_commands_are_targets_of_make() -> None:
    for target, command in (("run", "fhir-server serve --demo"), ("test", "pytest")):
        assert f"make {target}" in README
        done = subprocess.run(["make", "-n", target], capture_output=True, text=True, check=True, cwd=ROOT)
        assert command in done.stdout


def test_every_setting_is_described_and_every_one_described_is_read() -> None:
    described = set(re.findall(r"`([A-Z][A-Z0-9_]{5,})`", section("Settings")))
    assert described == set(settings_module.NAMES)
    assert set(re.findall(r"`([A-Z][A-Z0-9_]{5,})`", text_of(CURRENT))) == set(settings_module.NAMES)


def test_the_defaults_are_those_of_the_program(tmp_path: Path) -> None:
    actual = dict(Settings(tmp_path, "x" * 32).listed())
    stated = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", section("Settings"), re.MULTILINE))
    stated |= dict(re.findall(r"`([A-Z_]+)` \(`([^`]+)`\)", section("Settings")))
    assert len(stated) >= 7
    assert stated == {name: actual[name] for name in stated}
    assert {name for name in actual if actual[name] not in {"unset", "set"}} - {"data"} == set(stated)


def test_every_command_is_described_and_every_one_described_exists() -> None:
    rows = dict(re.findall(r"^\| `([a-z][a-z0-9]*)[^`]*` \| (.*) \|$", section("Commands"), re.MULTILINE))
    assert set(rows) == set(root.commands)
    for name, text in rows.items():
        known = {option for param in root.commands[name].params for option in param.opts}
        assert set(re.findall(r"`(--[a-z-]+)`", text)) <= known
    assert set(re.findall(r"fhir-server ([a-z][a-z0-9]*)", text_of(CURRENT))) <= set(root.commands)


def test_every_address_answers(server: Served) -> None:
    named = set(re.findall(r"`(/[a-z.\-/0-9]*)`", text_of(CURRENT))) - {"/tmp"}
    assert {"/", "/fhir", "/fhir/metadata", "/health/live", "/health/ready", "/metrics"} <= named
    for path in named:
        status = requests.get(server.base.removesuffix("/fhir") + path, timeout=30).status_code
        assert status == (401 if path in ("/fhir", "/admin/api/v1") else 405 if path in ("/hl7v2", "/payments/webhook/stripe") else 200), path


def test_what_is_said_of_tokens_and_metrics(server: Served) -> None:
    top = server.base.removesuffix("/fhir")
    assert requests.get(f"{top}/metrics", headers={"X-Forwarded-For": "192.0.2.1"}, timeout=30).status_code == 403
    assert "fhir_requests_total{" in requests.get(f"{top}/metrics", timeout=30).text
    assert "fhir_request_seconds_bucket{" in requests.get(f"{top}/metrics", timeout=30).text


@pytest.mark.parametrize("query", ["Patient?_query=x", "Patient?_list=$current-problems", "DocumentReference?contenttype:below=text"])
def test_what_search_has_not_is_refused(server: Served, query: str) -> None:
    answer = requests.get(f"{server.base}/{query}", headers=server.headers, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_the_limits_of_a_search_are_those_of_the_program() -> None:
    said = re.findall(r"^- A search has limits.*?(?=^- An unknown)", README, re.MULTILINE | re.DOTALL)[0]
    limits = (
        (f"{parse.MAX_PARAMETERS} parameters", f"{filters.MAX_ALTERNATIVES:,} values of one and {filters.MAX_COMPARED:,} of all"),
        (f"{filters.MAX_LINKS} chains", f"{parse.MAX_INCLUDES} includes", f"{parse.MAX_SORT_KEYS} keys", f"{expression.MAX_TESTS} comparisons"),
        (f"{query.MAX_COUNT:,} matches", f"until {moment.MAX_CHANGED:,} resources"),
    )
    assert [text for texts in limits for text in texts if text not in said] == []


def test_operations_are_those_that_are_named(server: Served) -> None:
    (rest,) = requests.get(f"{server.base}/metadata", timeout=30).json()["rest"]
    named = {operation["name"] for level in (rest, *rest["resource"]) for operation in level.get("operation", ())}
    (row,) = [line for line in section("Where things are").splitlines() if "fhir_server/operations" in line]
    assert named == set(re.findall(r"`\$([a-z-]+)`", row))
    assert len(rest["resource"]) == int(re.findall(r"all (\d+) resource types", README)[0])
    assert {resource["conditionalDelete"] for resource in rest["resource"] if resource["type"] != "AuditEvent"} == {"multiple"}


def test_the_figures_of_fhirpath_are_those_of_the_suite() -> None:
    spec = importlib.util.spec_from_file_location("official", ROOT / "tests" / "fhirpath" / "test_official.py")
    assert spec is not None
    assert spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    cases = [case.values[0].get("name") for case in official.cases()]
    failed = sum(name in official.NOT_PASSED for name in cases)
    assert f"of the {len(cases)} cases of the official R4 suite {len(cases) - failed} pass" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_folders_packages_and_tables_that_are_named_are_there() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", section("Where things are"), re.MULTILINE)
    folders = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert all((ROOT / folder).is_dir() for folder in folders)
    packages = {path.parent.name for path in (ROOT / "fhir_server").glob("*/__init__.py")}
    assert {folder.partition("/")[2] for folder in folders if "/" in folder} == packages
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (`[a-z0-9_`, ]+`) \|", architecture, re.MULTILINE)
    assert {name for row in named for name in re.findall(r"`([a-z0-9_]+)`", row)} == set(metadata.tables)
    # Each module of tables adds its own to the one set when it is imported.
    named_here = {
        tables.resource.name,
        account.name,
        hl7v2_message.name,
        hl7v2_peer.name,
        scheduling_setting.name,
        message.name,
        ledger_entry.name,
        payment_intent.name,
    }
    assert named_here <= set(metadata.tables)
