"""People who are made up: the same ones in every demo clinic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from random import Random
from typing import Any, Final

from fhir_server.settings import CANON

Json = dict[str, Any]
COUNT: Final = 200
_EVERY: Final = 20
_COVERED: Final = 7
_COPAY: Final = "http://terminology.hl7.org/CodeSystem/coverage-copay-type"
MRN: Final = f"{CANON}/sid/patient"

_WOMEN: Final = (
    "Adaeze Amira Anna Beatriz Chiara Elif Emma Fatou Grace Hana Ines Jana Katarina Leila Lena Maria Mei Nadia Olga Priya Rosa Sofia Yara Zoe"
)
_MEN: Final = (
    "Ahmed Anton Bruno Carlos Daniel David Emeka Finn Hassan Ivan Jakob Jonas Kofi Luca Marek Mateo Noah Omar Paul Ravi Samuel Tariq Viktor Yusuf"
)
_FAMILIES: Final = (
    "Abebe Ahmadi Alvarez Andersson Bauer Becker Bianchi Brandt Chen Costa Demir Diallo Dimitrov Fischer Garcia Haddad Hoffmann Ibrahim Jansen "
    "Kaya Keller Khan Kowalski Lindqvist Lopez Martin Mensah Mueller Nakamura Novak Nowak Okafor Osei Patel Petrov Rossi Santos Schmidt Silva "
    "Sorensen Tanaka Tran Vogel Weber Wolf Yilmaz Zhang"
)
_STREETS: Final = ("Garden Street", "Harbour Road", "Mill Lane", "Station Road", "Church Street", "Park Avenue", "Bridge Street")
_LANGUAGES: Final = ("en", "en", "en", "de", "de", "es", "tr")
_OLDEST: Final = 92


def people(today: date) -> list[Json]:
    """The Patients, each of the same age in years whenever the clinic is opened."""
    chance = Random(1848)  # noqa: S311 - people who are made up
    women, men, families = _WOMEN.split(), _MEN.split(), _FAMILIES.split()
    return [_person(number, chance, today, women, men, families) for number in range(1, COUNT + 1)]


def covers(patients: Sequence[Json]) -> Iterator[Json]:
    """The Coverages that some of them have: a payer of whom 80 % come."""
    for number, patient in enumerate(patients, 1):
        if number % _EVERY == _COVERED:
            yield {
                "resourceType": "Coverage",
                "id": f"{patient['id']}-coverage",
                "status": "active",
                "subscriberId": f"PM-{40_000 + number}",
                "beneficiary": {"reference": f"Patient/{patient['id']}"},
                "payor": [{"type": "Organization", "display": "Portwell Mutual"}],
                "order": 1,
                "costToBeneficiary": [
                    {"type": {"coding": [{"system": _COPAY, "code": "copaypct"}]}, "valueQuantity": {"value": 20, "unit": "%"}},
                ],
            }


def _person(number: int, chance: Random, today: date, women: list[str], men: list[str], families: list[str]) -> Json:
    is_woman = chance.random() < 0.53  # noqa: PLR2004 - somewhat more women see a doctor
    given, family = chance.choice(women if is_woman else men), chance.choice(families)
    language = {"coding": [{"system": "urn:ietf:bcp:47", "code": chance.choice(_LANGUAGES)}]}
    street = f"{chance.randint(1, 90)} {chance.choice(_STREETS)}"
    age = min(int(chance.triangular(0, _OLDEST, 44) * 365.25), _OLDEST * 365)
    return {
        "resourceType": "Patient",
        "id": f"demo-p{number:03}",
        "identifier": [{"system": MRN, "value": f"P-{1000 + number}"}],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given]}],
        # No address: nobody would get what is sent there.
        "telecom": [{"system": "phone", "use": "mobile", "value": f"+120255502{number:03}"}],
        "gender": "female" if is_woman else "male",
        "birthDate": (today - timedelta(days=age)).isoformat(),
        "address": [{"line": [street], "city": "Portwell", "postalCode": f"10{chance.randint(100, 999)}"}],
        "communication": [{"language": language, "preferred": True}],
        "managingOrganization": {"reference": "Organization/demo-clinic"},
    }
