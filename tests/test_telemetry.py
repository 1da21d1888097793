from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, structlog
from fhir_server import telemetry
telemetry.configure("info")
log = structlog.get_logger()
structlog.contextvars.bind_contextvars(request_id="r1")
log.debug("hidden")
log.info("search", query=b"name=Hidden&birthdate=1950-01-01&Hidden%20name=1", token="hidden", password="hidden")
log.info("Bearer hidden-1 and eyJhbGciOiJIUzI1NiJ9.hidden.hidden and postgresql://u:hidden@h/d")
try:
    try:
        int("hidden")
    except ValueError as error:
        raise KeyError("hidden") from error
except KeyError:
    log.exception("it failed")
logging.getLogger("library").warning("of a library: %s", "Bearer hidden")
logging.getLogger("library").info("hidden")
logging.getLogger("library").warning("with more", extra={"body": "hidden", "told": "hidden"})
logging.getLogger("fhir_server.jobs").warning("a peer is away", extra={"peer": "p1", "reason": "no answer, Bearer hidden", "token": "hidden"})
logging.getLogger("_granian").warning("hidden")
logging.getLogger("_granian").error("a worker died")
"""


def lines() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "hidden" not in done.stderr.lower()
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_line_is_json_with_its_request_and_nothing_that_was_entrusted() -> None:
    search, texts, failure, library, more, ours, worker = lines()
    assert {line.get("request_id") for line in (search, texts, failure, library, more, ours, worker)} == {"r1"}
    assert search["query"] == ["name", "birthdate", "[removed]"]
    assert search["token"] == search["password"] == "[removed]"
    assert texts["event"] == "Bearer [removed] and [removed] and postgresql://[removed]@h/d"
    assert failure["exception"]["type"] == "builtins.KeyError"
    assert failure["exception"]["at"] == ["<string>:14 <module>"]
    assert failure["cause"]["type"] == "builtins.ValueError"
    assert (library["level"], library["event"]) == ("warning", "of a library: Bearer [removed]")
    assert (more["event"], "told" in more) == ("with more", False), "what others put beside a line may be anything"
    assert (ours["peer"], ours["reason"], ours["token"]) == ("p1", "no answer, Bearer [removed]", "[removed]")
    assert worker["event"] == "a worker died"
