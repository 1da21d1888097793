from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.rest.xml import from_xml, to_xml
from fhir_server.spec import r4
from tests.strategies import COMMON_TYPES, resources

HERE = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parent.parent / "fhirpath" / "data"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def patient(inner: str) -> bytes:
    return f'<Patient xmlns="http://hl7.org/fhir">{inner}</Patient>'.encode()


def read(inner: str) -> Any:
    return from_xml(r4(), patient(inner))


def write(**elements: Any) -> str:
    return to_xml(r4(), {"resourceType": "Patient", **elements}).decode()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("pretty", [False, True])
def test_examples_come_back_the_same(path: Path, pretty: bool) -> None:  # noqa: FBT001 - both ways of writing
    resource = fhirjson.loads(path.read_bytes())
    back = from_xml(r4(), to_xml(r4(), resource, pretty=pretty))
    assert back == resource
    assert fhirjson.dumps(_ordered(back)) == fhirjson.dumps(_ordered(resource))


@pytest.mark.parametrize("name", ["patient-example", "observation-example"])
def test_official_examples_say_the_same_in_both_forms(name: str) -> None:
    resource = fhirjson.loads((EXAMPLES / f"{name}.json").read_bytes())
    document = from_xml(r4(), (HERE / f"{name}.xml").read_bytes())
    # The two forms escape quotes in the narrative differently.
    assert html.unescape(document["text"].pop("div")) == html.unescape(resource["text"].pop("div"))
    assert document == resource


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_generated_resources_come_back_the_same(data: st.DataObject) -> None:
    resource = data.draw(resources(data.draw(st.sampled_from(COMMON_TYPES))))
    assert from_xml(r4(), to_xml(r4(), resource)) == resource


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_generated_resources_of_rare_types_come_back_the_same(data: st.DataObject) -> None:
    resource = data.draw(resources(data.draw(st.sampled_from(r4().resource_types))))
    assert from_xml(r4(), to_xml(r4(), resource, pretty=True)) == resource


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")))
def test_text_is_escaped_or_refused(text: str) -> None:
    resource = {"resourceType": "Patient", "name": [{"text": text}]}
    if any(letter < " " and letter not in "\t\n\r" for letter in text):
        with pytest.raises(Outcome) as caught:
            to_xml(r4(), resource)
        assert caught.value.status == 406
    else:
        assert from_xml(r4(), to_xml(r4(), resource)) == resource


def test_elements_stand_in_the_order_of_the_specification() -> None:
    text = write(birthDate="2000-01-01", name=[{"given": ["A"], "family": "B"}], id="1", active=True)
    assert text.endswith(
        '<Patient xmlns="http://hl7.org/fhir"><id value="1"/><active value="true"/><name><family value="B"/><given value="A"/></name>'
        '<birthDate value="2000-01-01"/></Patient>'
    )


def test_primitives_with_siblings() -> None:
    extension = {"extension": [{"url": "http://e", "valueString": "x"}]}
    resource = {
        "resourceType": "Patient",
        "birthDate": "2000",
        "_birthDate": {"id": "b", **extension},
        "_gender": extension,
        "name": [{"given": ["A", None, "C"], "_given": [None, extension, {"id": "c"}]}, {"_given": [extension]}],
    }
    text = to_xml(r4(), resource).decode()
    assert '<birthDate id="b" value="2000"><extension url="http://e"><valueString value="x"/></extension></birthDate>' in text
    assert '<given value="A"/><given><extension url="http://e">' in text
    assert '<given id="c" value="C"/>' in text
    assert from_xml(r4(), text.encode()) == resource


@pytest.mark.parametrize("digits", ["1.10", "1e3", "1E-3", "-0.50", "0.000000000000000001", "100", "12345678901234567890.5"])
def test_decimals_keep_their_digits(digits: str) -> None:
    data = b'{"resourceType":"Observation","valueQuantity":{"value":' + digits.encode() + b"}}"
    text = to_xml(r4(), fhirjson.loads(data))
    assert f'<value value="{digits}"/>'.encode() in text
    assert fhirjson.dumps(from_xml(r4(), text)) == data


@pytest.mark.parametrize("text", ["+1", "01", "1.", ".5", "NaN", "abc", "0x10", "1,5", " 1", ""])
def test_what_is_no_number_is_left_for_the_validator(text: str) -> None:
    data = f'<Observation xmlns="http://hl7.org/fhir"><valueQuantity><value value="{text}"/></valueQuantity></Observation>'
    assert from_xml(r4(), data.encode())["valueQuantity"]["value"] == text


def test_what_is_no_boolean_or_integer_is_left_for_the_validator() -> None:
    assert read('<active value="True"/>')["active"] == "True"
    assert read('<multipleBirthInteger value="1.0"/>')["multipleBirthInteger"] == "1.0"
    assert read('<multipleBirthInteger value="2"/>')["multipleBirthInteger"] == 2
    assert read(f'<multipleBirthInteger value="{"9" * 5_000}"/>')["multipleBirthInteger"] == "9" * 5_000


DIVS = [
    f"<div {XHTML}>plain</div>",
    f"<div {XHTML}><p>a &amp; b &quot;c&quot; &#160; <br/> <br></br> <img src='#x' alt=\"a>b\"/></p></div>",
    f"<div {XHTML}\n class='x' ><div>in<div/>ner</div>\n\t</div>",
    f"<div {XHTML}/>",
]


@pytest.mark.parametrize("div", DIVS)
def test_narratives_keep_every_letter(div: str) -> None:
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    text = to_xml(r4(), resource)
    assert div.encode() in text
    assert from_xml(r4(), text) == resource


def test_narratives_beside_others_and_comments() -> None:
    inner = f'<text><status value="generated"/>{DIVS[1]}</text>'
    data = (
        f'<!-- <div> --><Bundle xmlns="http://hl7.org/fhir" xmlns:x="urn:x"><entry><resource>{patient(inner).decode()}</resource></entry><?div <div?>'
    )
    data += f"<entry><resource>{patient(inner.replace(DIVS[1], DIVS[2])).decode()}</resource></entry></Bundle>"
    bundle = from_xml(r4(), data.encode())
    assert [entry["resource"]["text"]["div"] for entry in bundle["entry"]] == [DIVS[1], DIVS[2]]


def test_comments_in_a_narrative_are_dropped() -> None:
    assert read(f"<text><status value='empty'/><div {XHTML}>a<!-- secret --><?x y?>b</div></text>")["text"]["div"] == f"<div {XHTML}>ab</div>"


@pytest.mark.parametrize(
    "div", ["", "text", "<p/>", "<div>no namespace</div>", f"<div {XHTML}>", f"<div {XHTML}/><evil/>", f"<div {XHTML}>&nbsp;</div>", 5, None]
)
def test_a_narrative_cannot_break_out_of_its_place(div: Any) -> None:
    with pytest.raises(Outcome) as caught:
        write(text={"status": "generated", "div": div})
    assert caught.value.status == 406


def test_attributes_cannot_be_broken_out_of() -> None:
    text = write(name=[{"id": '"><x', "text": '"/><evil a="&'}])
    assert '<name id="&quot;&gt;&lt;x"><text value="&quot;/&gt;&lt;evil a=&quot;&amp;"/></name>' in text


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Nonsense"},
        {"resourceType": "Patient", "unheard": 1},
        {"resourceType": "Patient", "name": ["x"]},
        {"resourceType": "Patient", "name": [None]},
        {"resourceType": "Patient", "contained": [{}]},
        {},
    ],
)
def test_what_is_no_resource_has_no_xml_form(resource: dict[str, Any]) -> None:
    with pytest.raises(Outcome) as caught:
        to_xml(r4(), resource)
    assert caught.value.status == 406


MALFORMED = {
    "empty": b"",
    "text": b"hello",
    "json": b'{"resourceType":"Patient"}',
    "unclosed": b'<Patient xmlns="http://hl7.org/fhir">',
    "no namespace": b"<Patient/>",
    "other namespace": b'<Patient xmlns="urn:hl7-org:v3"/>',
    "unknown type": b'<Pateint xmlns="http://hl7.org/fhir"/>',
    "datatype": b'<HumanName xmlns="http://hl7.org/fhir"/>',
    "abstract": b'<DomainResource xmlns="http://hl7.org/fhir"/>',
    "unknown element": patient("<nmae/>"),
    "unknown attribute": patient('<active valeu="true"/>'),
    "attribute on a resource": b'<Patient xmlns="http://hl7.org/fhir" id="1"/>',
    "attribute as an element": patient('<extension><url value="http://e"/></extension>'),
    "text in an element": patient("<name>Peter</name>"),
    "text after an element": patient("<name/>Peter"),
    "twice": patient('<active value="true"/><active value="true"/>'),
    "two contained in one": patient("<contained><Patient/><Patient/></contained>"),
    "nothing contained": patient("<contained/>"),
    "div elsewhere": patient(f"<div {XHTML}/>"),
    "fhir div": patient("<text><div/></text>"),
    "prefixed div": patient('<text><h:div xmlns:h="http://www.w3.org/1999/xhtml"/></text>'),
    "dtd": b"<!DOCTYPE Patient>" + patient(""),
    "external dtd": b'<!DOCTYPE Patient SYSTEM "file:///etc/passwd">' + patient(""),
    "entity": b'<!DOCTYPE Patient [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + patient('<id value="&x;"/>'),
    "laughs": b'<!DOCTYPE Patient [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + patient("<name>&b;</name>"),
    "undefined entity": patient("<id value='&nbsp;'/>"),
    "deep": patient("<extension>" * 10_000 + "</extension>" * 10_000),
    "latin-1": '<?xml version="1.0" encoding="iso-8859-1"?><Patient xmlns="http://hl7.org/fhir"><id value="ä"/></Patient>'.encode("latin-1"),
    "utf-16": patient("").decode().encode("utf-16"),
    "nul": patient('<id value="a\0b"/>'),
    "control character": patient('<id value="&#1;"/>'),
    "long number": '<Observation xmlns="http://hl7.org/fhir"><valueQuantity><value value="1.{}"/></valueQuantity></Observation>'.format(
        "1" * 400
    ).encode(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_documents(data: bytes) -> None:
    with pytest.raises(Outcome) as caught:
        from_xml(r4(), data)
    assert caught.value.status == 400
    assert caught.value.issues[0].diagnostics


def test_faults_name_the_line_and_what_was_meant() -> None:
    with pytest.raises(Outcome, match=r"Line 3: 'birthdate' is not an element of Patient; did you mean 'birthDate'\?"):
        read('\n<active value="true"/>\n<birthdate value="2000"/>')


def test_nesting_that_real_resources_have() -> None:
    data = f'<Questionnaire xmlns="http://hl7.org/fhir">{"<item>" * 200}{"</item>" * 200}</Questionnaire>'
    item = from_xml(r4(), data.encode())
    for _ in range(200):
        (item,) = item["item"]
    assert item == {}


def test_foreign_declarations_and_schema_locations_are_left_aside() -> None:
    data = b"""<?xml version="1.0" encoding="UTF-8"?><?pi?><!-- c -->
      <f:Patient xmlns:f="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir x.xsd">
        <f:active value="true"/><!-- c --></f:Patient>"""
    assert from_xml(r4(), data) == {"resourceType": "Patient", "active": True}


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(child) for child in value] if isinstance(value, list) else value
