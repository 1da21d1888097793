from __future__ import annotations

import html
import re

import pytest

from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put

from .conftest import FHIR, House, Json, query_of

LAUNCH = "https://app.example.org/launch"
SCOPE = "launch patient/*.rs"


def _token(house: House, account: object) -> str:
    return str(house.clinic.session(account)["access_token"])  # type: ignore[arg-type]


def _launch(house: House, token: str, **given: str) -> Json:
    answer = house.clinic("POST", "/oauth/launch", given, token)
    assert answer.status_code == 201, answer.text
    found: Json = answer.get_json()
    return found


def test_a_clinician_opens_an_app_for_a_patient_and_a_visit(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    doctor = house.account("doctor")
    made = _launch(house, _token(house, doctor), client_id=client.id, patient="p2", encounter="e1")
    assert made["url"].startswith(f"{LAUNCH}?")
    assert query_of(made["url"]) == {"iss": FHIR, "launch": made["launch"]}
    code = house.code(house.browser(doctor), client, launch=made["launch"], scope=f"{SCOPE} launch/encounter")
    tokens = house.redeem(client, code).get_json()
    assert {"patient": "p2", "encounter": "e1", "scope": f"{SCOPE} launch/encounter"}.items() <= tokens.items()
    assert [house.status(tokens["access_token"], f"Patient/{each}") for each in ("p1", "p2")] == [404, 200]


def test_a_launch_is_good_once_soon_for_its_person_and_its_app(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    other, _ = house.app(launch_uri=LAUNCH)
    doctor = house.account("doctor")
    browser, token = house.browser(doctor), _token(house, doctor)
    launch = _launch(house, token, client_id=client.id, patient="p2")["launch"]
    for who, app in ((house.browser(house.account("doctor")), client), (browser, other)):
        assert query_of(house.ask(who, app, launch=launch, scope=SCOPE).headers["Location"])["error"] == "invalid_request"
    assert house.page(browser, client, launch=launch, scope=SCOPE)
    assert query_of(house.ask(browser, client, launch=launch, scope=SCOPE).headers["Location"])["error"] == "invalid_request"
    late = _launch(house, token, patient="p2")["launch"]
    house.clinic.clock.seconds += 300
    assert query_of(house.ask(browser, client, launch=late, scope=SCOPE).headers["Location"])["error"] == "invalid_request"


def test_nobody_opens_an_app_for_whom_they_may_not_see(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    plain, _ = house.app()
    patient, doctor = _token(house, house.account()), _token(house, house.account("doctor"))
    assert _launch(house, patient, client_id=client.id, patient="p1")
    for token, given, status in (
        (patient, {"patient": "p2"}, 404),
        (doctor, {"patient": "nobody"}, 404),
        (doctor, {"patient": "../x"}, 404),
        (doctor, {"patient": "p1", "encounter": "e1"}, 422),
        (doctor, {"patient": "p2", "client_id": "nobody"}, 422),
        (doctor, {"patient": "p2", "client_id": plain.id}, 422),
        (doctor, {}, 400),
        (house.token("doctor"), {"patient": "p2"}, 403),
        ("nonsense", {"patient": "p2"}, 401),
    ):
        assert house.clinic("POST", "/oauth/launch", given, token).status_code == status, given


def test_an_app_opens_no_other_app(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    tokens = house.tokens(house.account("doctor"), client, scope="user/*.rs")
    assert house.clinic("POST", "/oauth/launch", {"patient": "p2"}, tokens["access_token"]).status_code == 403


def test_the_pages_lead_from_the_app_to_the_patient_to_the_app(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH, name="Chart of growth")
    browser = house.browser(house.account("doctor"))
    assert f'/launch?client={client.id}">Chart of growth' in browser.get("/launch").text
    answer = browser.get(f"/launch?client={client.id}&name=riv")
    assert "Ana Rivera" in answer.text
    assert "Okafor" not in answer.text
    assert "form-action 'self' https://app.example.org;" in answer.headers["Content-Security-Policy"]
    opened = house.fill(browser, f"/launch?client={client.id}&name=riv", client=client.id, patient="p2")
    launch = query_of(opened.headers["Location"])["launch"]
    tokens = house.redeem(client, house.code(browser, client, launch=launch, scope=SCOPE)).get_json()
    assert tokens["patient"] == "p2"
    assert house.fill(browser, f"/launch?client={client.id}&name=riv", client="nobody", patient="p2").status_code == 404
    assert house.browser().get("/launch").headers["Location"] == "/sign-in?next=/launch"


def _visit(identity: str, patient: str, **more: object) -> Put:
    visit = {
        "resourceType": "Encounter",
        "id": identity,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "ambulatory"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    return Put(visit | more, identity)


def test_on_the_page_an_app_is_opened_for_one_visit(house: House) -> None:
    made = [
        _visit(
            "v1",
            "p3",
            period={"start": "2026-03-01T09:30:00+00:00", "end": "2026-03-01"},
            reasonCode=[{"text": "<b>Cough</b>"}],
            type=[{"text": "Check-up"}],
        ),
        _visit("v2", "p3", period={"start": "2026-04"}, status="in-progress"),
        _visit("v3", "p3", period={"start": "0001-01-01T00:00:00+14:00", "end": "0001"}),
    ]
    house.clinic.store.transact([Put({"resourceType": "Patient", "id": "p3", "name": [{"family": "Visitor"}]}, "p3"), *made], SYSTEM)
    client, _ = house.app(launch_uri=LAUNCH)
    browser = house.browser(house.account("doctor"))
    listed = browser.get(f"/launch?client={client.id}&name=visitor").text
    place = f"/launch?client={client.id}&patient=p3"
    assert f'href="{place.replace("&", "&amp;")}"' in listed
    page = browser.get(place)
    assert "form-action 'self' https://app.example.org;" in page.headers["Content-Security-Policy"]
    assert re.findall(r'name="encounter" value="([^"]*)"', page.text) == ["v2", "v1", "v3", ""]
    assert "1 March 2026, 09:30 UTC" in page.text
    assert "Check-up: &lt;b&gt;Cough&lt;/b&gt; \u00b7 finished" in page.text
    assert "ambulatory \u00b7 in-progress" in page.text
    for chosen, told in (("v1", "v1"), ("", None)):
        opened = house.fill(browser, place, client=client.id, patient="p3", encounter=chosen)
        launch = query_of(opened.headers["Location"])["launch"]
        tokens = house.redeem(client, house.code(browser, client, launch=launch, scope=f"{SCOPE} launch/encounter")).get_json()
        assert (tokens["patient"], tokens.get("encounter")) == ("p3", told)
    # Another patient's visit.
    assert house.fill(browser, place, client=client.id, patient="p3", encounter="e1").status_code == 422


def test_visits_are_those_that_one_may_see(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    browser = house.browser(house.account())
    assert "Choose a visit" in browser.get(f"/launch?client={client.id}").text
    assert "no visit that you may see" in browser.get(f"/launch?client={client.id}&patient=p1").text
    doctor = house.browser(house.account("doctor"))
    for each, path, status in (
        (browser, f"client={client.id}&patient=p2", 404),
        (doctor, f"client={client.id}&patient=nobody", 404),
        (doctor, f"client={client.id}&patient=", 404),
        (doctor, f"client={client.id}&patient=../p2", 404),
        (doctor, "client=nobody&patient=p2", 404),
        (doctor, f"client={client.id}&patient=p2&cursor=nonsense", 400),
        (house.browser(), f"client={client.id}&patient=p2", 303),
    ):
        assert each.get(f"/launch?{path}").status_code == status, path
    assert 'value="e1"' in doctor.get(f"/launch?client={client.id}&patient=p2").text


def test_visits_go_through_pages(house: House) -> None:
    made = [_visit(f"w{number:02}", "p4", period={"start": f"2026-01-{number:02}", "end": f"2026-01-{number:02}"}) for number in range(1, 26)]
    house.clinic.store.transact([Put({"resourceType": "Patient", "id": "p4"}, "p4"), *made], SYSTEM)
    client, _ = house.app(launch_uri=LAUNCH)
    browser = house.browser(house.account("staff"))
    place, seen = f"/launch?client={client.id}&patient=p4", []
    for _ in range(2):
        page = browser.get(place).text
        seen += re.findall(r'name="encounter" value="(w\d+)"', page)
        place = html.unescape((re.findall(r'href="([^"]+)">Earlier visits', page) or [""])[0])
    assert seen == [f"w{number:02}" for number in range(25, 0, -1)]
    assert place == ""


def test_patients_open_apps_for_themselves(house: House) -> None:
    client, _ = house.app(launch_uri=LAUNCH)
    browser = house.browser(house.account())
    page = browser.get(f"/launch?client={client.id}&name=riv").text
    assert "Chidi Okafor" in page
    assert "Rivera" not in page
    assert house.fill(browser, f"/launch?client={client.id}", client=client.id, patient="p2").status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=okafor", ["p1"]),
        ("birthdate=1990-05-17", ["p1"]),
        ("identifier=1001", ["p2"]),
        ("identifier=urn:x|1001", ["p2"]),
        ("name=okafor&identifier=1001", []),
        ("name=zzz", []),
        ("", []),
    ],
)
def test_the_picker_finds_by_name_birth_date_and_number(house: House, query: str, found: list[str]) -> None:
    client, _ = house.app()
    browser = house.browser(house.account("staff"))
    page = browser.get(f"{house.page(browser, client)}?{query}").text
    assert re.findall(r'name="patient" value="([^"]+)"', page) == found
    assert ("Nobody was found" in page) == (not found and bool(query))


def test_the_picker_says_what_is_wrong(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account("staff"))
    place = house.page(browser, client)
    for query in ("birthdate=yesterday", "name=o&cursor=nonsense", "name=%3Cscript%3E"):
        answer = browser.get(f"{place}?{query}")
        assert answer.status_code == 200
        assert "<script>" not in answer.text
    assert 'role="alert"' in browser.get(f"{place}?birthdate=yesterday").text


def test_the_picker_goes_through_pages(house: House) -> None:
    many: list[Json] = [{"resourceType": "Patient", "id": f"m{number}", "name": [{"family": f"Many{number:02}"}]} for number in range(25)]
    house.clinic.store.transact([Put(each, each["id"]) for each in many], SYSTEM)
    client, _ = house.app()
    browser = house.browser(house.account("staff"))
    place = house.page(browser, client)
    page = browser.get(f"{place}?name=many").text
    assert len(re.findall(r'name="patient"', page)) == 20
    following = re.search(r'href="([^"]+)">Further patients', page)
    assert following is not None
    rest = browser.get(following[1].replace("&amp;", "&")).text
    assert re.findall(r'name="patient" value="([^"]+)"', rest) == [f"m{number}" for number in range(20, 25)]


def test_a_chosen_patient_can_be_changed_and_must_be_one_whom_the_person_sees(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account("doctor"))
    place = house.page(browser, client)
    assert house.fill(browser, place, answer="choose", patient="nobody").status_code == 404
    assert house.fill(browser, place, answer="choose", patient="p1").status_code == 303
    assert "Chidi Okafor" in browser.get(place).text
    assert "Choose the patient" in browser.get(f"{place}?choose=1").text
    house.fill(browser, f"{place}?choose=1", answer="choose", patient="p2")
    assert "Ana Rivera" in browser.get(place).text
    patient = house.browser(house.account())
    own = house.page(patient, client)
    assert house.fill(patient, own, answer="choose", patient="p2").status_code == 400
    assert "Chidi Okafor" in patient.get(f"{own}?choose=1").text
