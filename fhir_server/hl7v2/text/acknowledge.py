"""Acknowledgements: which are wanted, and their bytes.

https://www.hl7.eu/refactored/ch02.html (2.9: message processing rules), https://www.hl7.eu/refactored/segERR.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from .charset import encode, wide
from .escapes import do
from .faults import CONDITIONS, Fault
from .message import Message
from .separators import Separators, separators_of
from .unreadable import Unreadable
from .versions import USUAL, nearest, since

Code = Literal["AA", "AE", "AR", "CA", "CE", "CR"]

_MOST: Final = 20
"""Faults that an answer tells: a message with more has one cause of them all."""

_SHORT: Final = 80
_LONG: Final = 250
_LAST: Final = 18
_USUAL: Final = Separators("|", "^", "~", "\\", "&")
_FIRST_LINE: Final = re.compile(r"MSH[^\r\n]{1,4096}")
_PROCESSING: Final = "P"
_SEVERITIES: Final = "EWI"
_CONDITIONS: Final = frozenset({"AL", "NE", "ER", "SU"})


def enhanced(message: Message) -> bool:
    """Whether the sender says by MSH-15 or MSH-16 which answers it wants; else the original mode holds, with one answer to each message.

    What is none of the conditions says nothing: a sender who was never answered would wait for ever.
    """
    header = message.header
    return not _CONDITIONS.isdisjoint((header.accept_ack.upper(), header.application_ack.upper()))


def wanted(message: Message, code: Code) -> bool:
    """Whether a message is to be answered with a code.

    C-codes (stored or not) are wanted in enhanced mode alone, as MSH-15 says; A-codes as MSH-16 says there, and always in original mode. A condition
    that is left empty beside one that is not counts as never. No acknowledgement is ever answered, and an answer with MSA is only as MSH-15 says.
    """
    if message.header.type == "ACK":
        return False
    if code[0] == "C":
        return _holds(message.header.accept_ack, code)
    if any(segment.name == "MSA" for segment in message.segments[:4]):
        return False
    return _holds(message.header.application_ack, code) if enhanced(message) else True


def acknowledgement(message: Message | None, raw: bytes, code: Code, faults: Sequence[Fault] = (), *, control_id: str, now: datetime) -> bytes:
    """The answer to a message, its segments ended by CR, in the separators, version and character set of the message. Costs 10 to 20 µs.

    `control_id` is the answer's own; `now` has an offset. Of a message that could not be read, `raw` is searched for what an answer has to repeat.
    From 2.5 on each fault is an ERR with its place and code; before, all are in one ERR, and MSA-3 has the text of the first. Empty for an ACK.
    """
    asked = _of(message) if message else _found(raw)
    if asked.type == "ACK":
        return b""
    told = sorted(faults, key=lambda fault: _SEVERITIES.index(fault.severity))[:_MOST]
    segments = [_msh(asked, control_id, now), _msa(asked, code, told)]
    if told and since(asked.version, "2.5"):
        segments += [_err(asked.separators, fault) for fault in told]
    elif told:
        repetitions = [_eld(asked, fault) for fault in told]
        segments.append(f"ERR{asked.separators.field}{asked.separators.repetition.join(repetitions)}")
    return encode("\r".join(segments) + "\r", asked.codec)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an answer repeats. `fields` are the texts of MSH as they stand, at the standard's numbers; `version` is the one that it is written by."""

    fields: list[str]
    separators: Separators
    codec: str
    type: str
    event: str
    version: str

    def field(self, number: int) -> str:
        return self.fields[number] if number < len(self.fields) else ""


def _of(message: Message) -> _Asked:
    header = message.header
    separators = message.separators
    return _Asked(message.segments[0].fields, separators, message.codec, header.type, header.event, nearest(header.version))


def _found(raw: bytes) -> _Asked:
    """What can be told of MSH in bytes that are no message: each byte is given back as it came, whatever character it is a part of."""
    codec = wide(raw) or "iso8859_1"
    match = _FIRST_LINE.search(raw[:65536].decode(codec, "ignore"))
    try:
        separators = separators_of(match[0]) if match else _USUAL
    except Unreadable:
        match, separators = None, _USUAL
    fields = match[0].split(separators.field)[: _LAST + 1] if match else ["MSH", "^~\\&"]
    fields.insert(1, separators.field)
    kind = (fields[9] if len(fields) > _TYPE else "").split(separators.component)
    version = (fields[12] if len(fields) > _VERSION else "").partition(separators.component)[0]
    return _Asked(fields, separators, codec, kind[0], kind[1] if len(kind) > 1 else "", nearest(version))


_TYPE: Final = 9
_VERSION: Final = 12


def _msh(asked: _Asked, control_id: str, now: datetime) -> str:
    separators = asked.separators
    version = asked.field(_VERSION).strip()
    time = now.strftime("%Y%m%d%H%M%S" if asked.version == "2.1" else "%Y%m%d%H%M%S%z")
    start = ("MSH", asked.field(2), asked.field(5), asked.field(6), asked.field(3), asked.field(4), do(time, separators), "", _kind(asked))
    end = (do(control_id, separators), asked.field(11).strip() or _PROCESSING, version or do(USUAL, separators))
    charset = asked.field(_LAST)
    return separators.field.join((*start, *end, *((*("",) * 5, charset) if charset else ())))


def _kind(asked: _Asked) -> str:
    """MSH-9: the structure is in it from 2.3.1 on, the event where there is one."""
    if not asked.event:
        return "ACK"
    parts = ("ACK", do(asked.event, asked.separators), "ACK") if since(asked.version, "2.3.1") else ("ACK", do(asked.event, asked.separators))
    return asked.separators.component.join(parts)


def _msa(asked: _Asked, code: Code, told: Sequence[Fault]) -> str:
    text = (do(told[0].text[:_SHORT], asked.separators),) if told and not since(asked.version, "2.5") else ()
    return asked.separators.field.join(("MSA", code, asked.field(10), *text))


def _err(separators: Separators, fault: Fault) -> str:
    location = separators.component.join(fault.place)
    application = do(fault.application, separators)
    texts = (do(fault.diagnostic[:_LONG], separators), do(fault.text[:_LONG], separators))
    return separators.field.join(("ERR", "", location, _code(fault, separators, separators.component), fault.severity, application, "", *texts))


def _eld(asked: _Asked, fault: Fault) -> str:
    """ERR-1 of 2.2 to 2.4: segment, sequence, field and code; 2.1 has the code alone."""
    if asked.version == "2.1":
        return fault.code
    place = (*fault.place[:3], "", "", "")[:3]
    return asked.separators.component.join((*place, _code(fault, asked.separators, asked.separators.subcomponent)))


def _code(fault: Fault, separators: Separators, between: str) -> str:
    return between.join((fault.code, do(CONDITIONS.get(fault.code, ""), separators), "HL70357"))


def _holds(condition: str, code: Code) -> bool:
    good, condition = code[1] == "A", condition.upper()
    return condition == "AL" or (condition == "SU" and good) or (condition == "ER" and not good)
