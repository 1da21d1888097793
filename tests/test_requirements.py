"""Each requirement of the specification has a test that exists, or says why not."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "conformance" / "requirements.csv"
COLUMNS = ["id", "source", "requirement", "tests", "reason"]
SOURCES = re.compile(
    r"(http|binary|search|profiling|terminologies|fhirpatch|narrative|references|json|auditevent|provenance|security)\.html#[A-Za-z0-9.\-]+|contract#[0-9]|balp#[a-z\-]+"
    r"|bad-input#[a-z0-9\-]+|smart/[a-z\-]+\.html#[a-z\-]+|rfc[0-9]{4}#[0-9.]+|hl7v2/[a-z0-9]+#[0-9.]+|bulk-data#[a-z\-]+"
)

# The anchors of the two pages whose every rule is listed, as R4 4.0.1 has them: a row must lead somewhere.
ANCHORS = {
    "http.html": """general styleguide root versioning Status-Codes return cread ops prefer mime-type version-parameter parameters versions read vread
        update upsert rejecting-updates cond-update versionaware concurrency patch delete create ccreate search vsearch capabilities transaction
        brules trules transaction-response other-bundles history transactional-integrity paging head custom summary""",
    "search.html": """Summary Introduction errors standard all id lastUpdated tag profile security parameters ptypes modifiers prefix number date
        string uri token mimetype quantity reference versions recursive chaining has composite combining missing escaping text content special list
        filter type query return sort total count include revinclude contained external Paging summary elements score conformance""",
}


@cache
def rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        assert reader.fieldnames == COLUMNS
        return tuple(reader)


@cache
def collected() -> frozenset[str]:
    """Node ids of all tests, read from their source so that nothing has to be imported."""
    return frozenset(node for path in sorted((ROOT / "tests").rglob("test_*.py")) for node in _tests(path))


def _tests(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{name}::{node.name}"
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test_"):
                    yield f"{name}::{node.name}::{inner.name}"


def test_ids_are_unique_and_rows_complete() -> None:
    ids = [row["id"] for row in rows()]
    assert len(ids) == len(set(ids))
    assert [row["id"] for row in rows() if not re.fullmatch(r"[A-Z][A-Z0-9]*-[0-9]{2,3}", row["id"]) or not row["requirement"].strip()] == []


def test_sources_are_pages_with_anchors() -> None:
    assert [row["source"] for row in rows() if not SOURCES.fullmatch(row["source"])] == []
    listed = [(row["id"], *row["source"].split("#")) for row in rows()]
    assert [(name, page, anchor) for name, page, anchor in listed if page in ANCHORS and anchor not in ANCHORS[page].split()] == []


def test_what_is_not_shown_says_what_the_server_does_instead() -> None:
    reasons = {row["id"]: row["reason"] for row in rows() if not row["tests"]}
    assert {name: reason for name, reason in reasons.items() if len(reason) < 15 or "not tested" in reason.lower()} == {}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["id"])
def test_each_requirement_has_a_test_or_a_reason(row: dict[str, str]) -> None:
    named = row["tests"].split()
    assert named or row["reason"].strip()
    assert [test for test in named if test.partition("[")[0] not in collected()] == []
