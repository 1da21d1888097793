"""What it costs to read HL7 v2, to check it and to answer it, beside hl7apy: CPU time, on the messages of the tests.

python -m bench.reading
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from fhir_server.hl7v2.text import batch, escapes, grammar
from fhir_server.hl7v2.text.acknowledge import acknowledgement
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import read

_DATA = Path(__file__).parents[1] / "tests" / "hl7v2" / "data"
_FAULT = Fault("101", "PID-3 is missing", "PID", 1, 3)
_MEGABYTES = 5


def main() -> None:
    """Measures, row by row."""
    now = datetime.now(UTC)
    raws = [raw for path in sorted(_DATA.glob("*.hl7")) for raw in batch.split(path.read_bytes()).messages]
    messages = [read(raw) for raw in raws]
    message, raw = messages[0], raws[0]
    large = raw.replace(b"DUCK^DONALD", b"RVZF" * (_MEGABYTES * 250_000))
    size, segments = sum(map(len, raws)), sum(len(each.segments) for each in messages)
    print(f"{len(raws)} messages of {size / len(raws):.0f} bytes and {segments / len(raws):.1f} segments")
    print("| work | µs |\n|---|--:|")
    _row("bytes to pieces", lambda: [batch.split(each) for each in raws], len(raws))
    _row("message to segments", lambda: [read(each) for each in raws], len(raws))
    _row("check by the grammar", lambda: [grammar.check(each) for each in messages], len(raws))
    _row("acknowledgement AA", lambda: acknowledgement(message, raw, "AA", control_id="1", now=now))
    _row("acknowledgement AE, one fault", lambda: acknowledgement(message, raw, "AE", [_FAULT], control_id="1", now=now))
    _row("acknowledgement of bytes that are no message", lambda: acknowledgement(None, raw, "AR", [_FAULT], control_id="1", now=now))
    _row("a value without escapes", lambda: escapes.undo("Text of usual length", message.separators, "utf-8"))
    _row("a value with two", lambda: escapes.undo("Text \\T\\ of \\.br\\ usual length", message.separators, "utf-8"))
    _row(f"{_MEGABYTES} MB to pieces", lambda: batch.split(large), loops=1)
    _row(f"{_MEGABYTES} MB to segments", lambda: read(large), loops=1)
    _row("hl7apy, message to groups", lambda: [_parsed(each) for each in raws], len(raws), loops=1)


def _row(name: str, work: Callable[[], object], count: int = 1, loops: int = 20) -> None:
    best = min(_spent(work, loops) for _ in range(5))
    print(f"| {name} | {best / count * 1e6:,.1f} |")


def _spent(work: Callable[[], object], loops: int) -> float:
    start = time.process_time()
    for _ in range(loops):
        work()
    return (time.process_time() - start) / loops


def _parsed(raw: bytes) -> object:
    try:
        return parse_message(raw.decode())
    except HL7apyException:
        return None


if __name__ == "__main__":
    main()
