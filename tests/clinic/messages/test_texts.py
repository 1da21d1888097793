"""The texts: that all there are can be rendered, and that none that is written can do harm."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.messages import templates
from fhir_server.clinic.messages.events import CHANNELS, EVENTS, Channel
from fhir_server.clinic.messages.rendering import MAX_SOURCE, VARIABLES, check, render, size_of
from fhir_server.clinic.messages.templates import BUILT_IN, EXAMPLE, Template
from fhir_server.outcome import Outcome

from .conftest import House


@pytest.mark.parametrize("language", BUILT_IN)
@pytest.mark.parametrize("channel", CHANNELS)
def test_the_program_has_a_text_for_each_event(channel: Channel, language: str) -> None:
    for event in EVENTS:
        found = templates.built_in(event, channel, language)
        templates.examine(found)
        for pending in (True, False):
            made = templates.rendered(found, {**EXAMPLE, "pending": pending})
            assert "{" not in made.text
            assert str(EXAMPLE["stop"]) in made.text
            assert (made.subject is None) == (channel == "sms")


@pytest.mark.parametrize(
    "source",
    [
        "{% for each in clinic %}x{% endfor %}",
        "{% set clinic = 1 %}",
        "{% macro x() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{{ clinic.upper() }}",
        "{{ clinic.__class__ }}",
        "{{ clinic['x'] }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ clinic ~ clinic }}",
        "{{ clinic | center(1000000000) }}",
        "{{ clinic | attr('x') }}",
        "{{ range(9) }}",
        "{{ reason }}",
        "{{ diagnosis }}",
        "{{ self }}",
        "{{ clinic",
        "{% if clinic %}",
        "{% if clinic %}" * 60 + "{% endif %}" * 60,
        "{{ " + "not " * 900 + "clinic }}",
        "{{ " + "(" * 1900 + "clinic" + ")" * 1900 + " }}",
        "x" * (MAX_SOURCE + 1),
        "{% raw %}{{",
        "{{ [clinic] }}",
        "{{ {'a': clinic} }}",
        "{{ clinic if name else link }}",
    ],
)
def test_a_text_fills_gaps_and_does_nothing_else(source: str) -> None:
    begun = time.process_time()
    with pytest.raises(Outcome) as caught:
        check(source, "text")
    assert caught.value.category == "invalid"
    assert time.process_time() - begun < 1


@given(source=st.text(st.sampled_from("{}%# ifendclinic|upper'\"()[]~*0\n"), max_size=80))
def test_any_text_is_refused_or_rendered(source: str) -> None:
    with suppress(Outcome):
        check(source, "text")
        render(source, EXAMPLE)


def test_values_stay_on_one_line_and_short() -> None:
    made = render("{{ name }}", {"name": "a\r\nBcc: x\0" + "b" * 10_000})
    assert "\n" not in made
    assert "\r" not in made
    assert len(made) <= 300
    assert made.startswith("a Bcc: x")


def test_each_variable_may_stand_in_a_text_and_none_tells_of_an_illness() -> None:
    check("".join("{{ " + name + " }}" for name in VARIABLES), "text")
    assert not set(VARIABLES) & {"reason", "service", "diagnosis", "specialty", "note", "result"}


@pytest.mark.parametrize(
    ("text", "alphabet", "length", "segments"),
    [
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("ä" * 160, "GSM-7", 160, 1),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        ("ş" * 70, "UCS-2", 70, 1),
        ("ş" * 71, "UCS-2", 71, 2),
        ("😀" * 36, "UCS-2", 72, 2),
        ("", "GSM-7", 0, 1),
    ],
)
def test_an_sms_is_counted_as_gateways_count_it(text: str, alphabet: str, length: int, segments: int) -> None:
    found = size_of(text)
    assert (found.alphabet, found.length, found.segments) == (alphabet, length, segments)


def test_a_new_version_takes_the_place_of_the_one_before_and_the_program_s_comes_back(house: House) -> None:
    def draft(text: str, language: str = "fr") -> Template:
        return Template(None, "booked", "sms", language, 0, "draft", None, text)

    with house.store.database.connection() as connection, connection.transaction(force_rollback=True):
        now = house.clock()
        one = templates.add(connection, draft("un {{ day }}"), "admin", now)
        two = templates.add(connection, draft("deux"), "admin", now)
        assert (one.version, two.version, one.state) == (1, 2, "draft")
        assert templates.chosen(connection, "booked", "sms", ("fr-CA",)).language == "en"
        templates.activate(connection, one, "admin", now)
        assert templates.chosen(connection, "booked", "sms", ("fr-CA", "de")).text == "un {{ day }}"
        templates.activate(connection, two, "admin", now)
        found = {each.version: each.state for each in templates.page(connection, {"language": "fr"}, None, 10)}
        assert found == {1: "retired", 2: "active"}
        templates.retire(connection, two, "admin", now)
        assert templates.chosen(connection, "booked", "sms", ("fr", "de")).language == "de"


@pytest.mark.parametrize(
    ("channel", "subject", "text"),
    [
        ("email", None, "x"),
        ("sms", "x", "x"),
        ("sms", None, "x" * 2000),
        ("sms", None, "{{ old_day | trim }}{% if pending %}x{% endif %}{{ reason }}"),
    ],
)
def test_what_could_not_be_sent_is_not_kept(channel: Channel, subject: str | None, text: str) -> None:
    with pytest.raises(Outcome):
        templates.examine(Template(None, "booked", channel, "en", 0, "draft", subject, text))
