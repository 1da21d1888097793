"""What a narrative may hold and what it may not."""

from __future__ import annotations

import pytest

from fhir_server.spec import r4
from fhir_server.validation import Validator

VALIDATOR = Validator(r4())
XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'


def problems(div: object) -> list[tuple[str, str]]:
    issues = VALIDATOR.check({"resourceType": "Patient", "text": {"status": "generated", "div": div}})
    assert {issue.expression for issue in issues} <= {("Patient.text.div",)}
    return [(issue.code, issue.diagnostics) for issue in issues]


@pytest.mark.parametrize(
    "inner",
    [
        "text",
        "<p>a &lt; b &#169; <b>c</b><br/></p>",
        '<table class="grid" style="color: red"><tr><td colspan="2">x</td></tr></table>',
        '<img src="#i" alt="x"/>',
        '<img src="data:image/png;base64,AAAA" alt="x"/>',
        '<a href="https://example.org/a?b=c#d">x</a><a name="here">y</a><a href="Patient/1">z</a>',
        "<!-- a comment --> text",
        '<p style="background: white url(tbl_bck1.png)">x</p>',
        """<p style="background: url('data:image/png;base64,AAAA')">x</p>""",
        '<p lang="en" xml:lang="en">x</p>',
    ],
)
def test_formatting_is_allowed(inner: str) -> None:
    assert problems(f"<div {XMLNS}>{inner}</div>") == []


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        '<p onclick="alert(1)">x</p>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" java&#9;script:alert(1)">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<img src="data:image/svg+xml,x" alt="x"/>',
        '<img src="x" onerror="alert(1)"/>',
        "<iframe>x</iframe>",
        "<object>x</object>",
        "<form><input/>x</form>",
        "<style>p {}</style>x",
        '<link href="x"/>x',
        '<p style="background: url(http://x.org)">x</p>',
        '<p style="background: url( //x.org/a.png)">x</p>',
        '<p style="background: url(javascript:alert(1))">x</p>',
        '<p style="background: u\\rl(http://x.org)">x</p>',
        '<p style="width: expression(alert(1))">x</p>',
        '<svg xmlns="http://www.w3.org/2000/svg">x</svg>',
        '<a xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="javascript:alert(1)">x</a>',
        "",
        " \n ",
        "<p/>",
    ],
)
def test_what_is_active_or_says_nothing_is_refused(inner: str) -> None:
    found = problems(f"<div {XMLNS}>{inner}</div>")
    assert found
    assert {code for code, _ in found} == {"invariant"}


@pytest.mark.parametrize(
    "div",
    [
        5,
        "",
        "text",
        "<div>text</div>",
        f"<p {XMLNS}>text</p>",
        f"<div {XMLNS}>text",
        f"<div {XMLNS}>&nbsp;</div>",
        f'<!DOCTYPE div [<!ENTITY x SYSTEM "file:///etc/passwd">]><div {XMLNS}>&x;</div>',
        f"<div {XMLNS}><![CDATA[x]]></div>",
        f"<?php x ?><div {XMLNS}>x</div>",
        f"<div {XMLNS}>" + "<b>" * 5_000 + "x" + "</b>" * 5_000 + "</div>",
    ],
)
def test_what_is_no_xhtml_is_refused(div: object) -> None:
    assert {code for code, _ in problems(div)} <= {"structure", "value"}
    assert problems(div)


def test_a_narrative_of_many_faults_stays_short() -> None:
    assert len(problems(f"<div {XMLNS}>" + "<script/>" * 100_000 + "</div>")) == 100


def test_a_narrative_has_a_bound() -> None:
    assert [code for code, _ in problems(f"<div {XMLNS}>{'x' * 5_000_000}</div>")] == ["too-long"]
