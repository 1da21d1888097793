"""What brings people to the demo clinic: a complaint, how soon they come again for it, what is measured, prescribed and sent to the laboratory."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

Json = dict[str, Any]
_THO: Final = "http://terminology.hl7.org/CodeSystem"
_LOINC: Final = "http://loinc.org"
_UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Test:
    """A laboratory test: LOINC code, name, unit in UCUM, reference range, and how far values stray from its middle, 1 being as wide as it is."""

    code: str
    name: str
    unit: str
    low: float
    high: float
    digits: int = 1
    strays: float = 0.6


@dataclass(frozen=True, slots=True)
class Story:
    """A reason to come. `weight` is how often it is that of somebody; `again` after how many days they come again, None for never."""

    reason: str
    icd: str
    weight: int
    again: int | None
    medicine: str = ""
    dosage: str = ""
    tests: tuple[Test, ...] = ()
    warmth: float = 36.8


_HBA1C: Final = Test("4548-4", "Hemoglobin A1c", "%", 4.0, 5.6, 1, 1.4)
_GLUCOSE: Final = Test("2345-7", "Glucose", "mg/dL", 70, 99, 0, 1.1)
_CREATININE: Final = Test("2160-0", "Creatinine", "mg/dL", 0.6, 1.2, 2)
_POTASSIUM: Final = Test("2823-3", "Potassium", "mmol/L", 3.5, 5.1, 1)
_HEMOGLOBIN: Final = Test("718-7", "Hemoglobin", "g/dL", 12.0, 16.0, 1)
_TSH: Final = Test("3016-3", "Thyrotropin", "m[IU]/L", 0.4, 4.0, 2, 0.9)
_CRP: Final = Test("1988-5", "C reactive protein", "mg/L", 0, 5, 1, 2.0)

STORIES: Final = (
    Story("High blood pressure", "I10", 18, 21, "Ramipril 5 mg tablets", "One tablet in the morning", (_POTASSIUM, _CREATININE)),
    Story("Type 2 diabetes", "E11.9", 12, 14, "Metformin 500 mg tablets", "One tablet twice a day with meals", (_HBA1C, _GLUCOSE, _CREATININE)),
    Story("Common cold", "J00", 16, None, "Paracetamol 500 mg tablets", "One tablet up to four times a day", (), 37.6),
    Story("Low back pain", "M54.5", 12, 10, "Ibuprofen 400 mg tablets", "One tablet up to three times a day with food"),
    Story("Asthma", "J45.9", 8, 21, "Salbutamol 100 micrograms inhaler", "Two puffs when short of breath"),
    Story("Acute sinusitis", "J01.9", 7, None, "Amoxicillin 500 mg capsules", "One capsule three times a day for seven days", (_CRP,), 38.1),
    Story("Underactive thyroid", "E03.9", 5, 28, "Levothyroxine 75 micrograms tablets", "One tablet half an hour before breakfast", (_TSH,)),
    Story("Tiredness", "R53", 8, 14, tests=(_HEMOGLOBIN, _TSH, _GLUCOSE)),
    Story("Check-up", "Z00.0", 10, None, tests=(_GLUCOSE, _CREATININE)),
    Story("Wound after surgery", "Z48.0", 4, 5),
)


def condition_code(story: Story) -> Json:
    """The code of the diagnosis."""
    return {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": story.icd, "display": story.reason}], "text": story.reason}


def vital_signs(story: Story, chance: Random) -> list[Json]:
    """What is measured of everybody, as Observations without whose they are, or when."""
    systolic = round(chance.gauss(148 if story.icd == "I10" else 124, 9))
    pressure = {
        "category": _category("vital-signs"),
        "code": _loinc("85354-9", "Blood pressure"),
        "component": [
            {"code": _loinc("8480-6", "Systolic blood pressure"), "valueQuantity": _quantity(systolic, "mm[Hg]")},
            {"code": _loinc("8462-4", "Diastolic blood pressure"), "valueQuantity": _quantity(round(systolic * 0.62 + chance.gauss(0, 4)), "mm[Hg]")},
        ],
    }
    pulse, warmth = round(chance.gauss(74, 8)), round(chance.gauss(story.warmth, 0.2), 1)
    return [pressure, _sign("8867-4", "Heart rate", pulse, "/min"), _sign("8310-5", "Body temperature", warmth, "Cel")]


def result(test: Test, chance: Random) -> Json:
    """A result of a test, as an Observation without whose it is, or when."""
    middle, width = (test.low + test.high) / 2, (test.high - test.low) / 2
    value = max(round(chance.gauss(middle + width * (test.strays - 0.6), width * test.strays), test.digits), 0)
    shown = int(value) if not test.digits else value
    flag = "L" if value < test.low else "H" if value > test.high else "N"
    return {
        "category": _category("laboratory"),
        "code": _loinc(test.code, test.name),
        "valueQuantity": _quantity(shown, test.unit),
        "interpretation": [{"coding": [{"system": f"{_THO}/v3-ObservationInterpretation", "code": flag}]}],
        "referenceRange": [{"low": _quantity(test.low, test.unit), "high": _quantity(test.high, test.unit)}],
    }


def _sign(code: str, name: str, value: float, unit: str) -> Json:
    return {"category": _category("vital-signs"), "code": _loinc(code, name), "valueQuantity": _quantity(value, unit)}


def _category(code: str) -> list[Json]:
    return [{"coding": [{"system": f"{_THO}/observation-category", "code": code}]}]


def _loinc(code: str, name: str) -> Json:
    return {"coding": [{"system": _LOINC, "code": code, "display": name}], "text": name}


def _quantity(value: float, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit}
