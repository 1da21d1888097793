"""Several messages in one text: batches and files of batches, and what stands between them.

https://www.hl7.eu/refactored/ch02.html (2.10.3: batch protocol)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from .charset import wide
from .escapes import do
from .faults import Fault
from .separators import Separators, separators_of
from .unreadable import Unreadable

Kind = Literal["message", "envelope", "blank", "stray"]

_ENDS: Final = "\r\n\0\x0b\x1c"
_BEFORE: Final = " \t\0\x0b\x1c"
_MARKS: Final = ("\ufeff", "\xef\xbb\xbf")
_NAMES: Final = ("MSH", "FHS", "BHS", "BTS", "FTS")
_TRAILERS: Final = ("BTS", "FTS")
# Where other text stands before it on its line, a message is known by the separators that stand around its MSH-2.
_LOOSE: Final = re.compile(r"MSH([^\w\s])[^\w\s]{1,5}\1")
_BLANK: Final = re.compile(r"(?:[\s\0\ufeff]++|\xef\xbb\xbf)*+")
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n?|\n)?")
_USUAL: Final = Separators("|", "^", "~", "\\", "&")
_LOSSLESS: Final = "surrogatepass"
_GREATER_FIRST: Final = (0x00, 0xFE)
_CONTROL_ID: Final = 11
_MOST, _NOTED = 50, 5
"""Faults that are told of one envelope, and those that each trailer of an answer repeats."""

_COUNT: Final = re.compile(r"\d{1,9}")


class Piece(NamedTuple):
    """A part of what came. All of them, one after the other, are what came, to the byte."""

    kind: Kind
    raw: bytes


@dataclass(slots=True)
class Set:
    """One batch: its BHS and BTS as they stand, empty where there are none, and the places of its messages among all that came."""

    header: str = ""
    trailer: str = ""
    members: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one text holds. `enveloped` says whether there was a segment of a batch, so that the answer is one too.

    `faults` (all of them warnings) say what does not fit: counts, trailers that are missing, text that belongs to no message.
    """

    messages: list[bytes]
    enveloped: bool
    faults: tuple[Fault, ...]
    pieces: tuple[Piece, ...]
    sets: tuple[Set, ...]
    header: str
    trailer: str
    codec: str


def split(raw: bytes) -> Batch:
    """The messages in some bytes, each from its MSH to the next header, with line ends as they came.

    Never fails and loses nothing: text without any header is one message, which then cannot be read. Costs 6 ms a MB.
    """
    codec, text, rest = _text(raw)
    parts = list(_parts(text))
    if not any(kind in {"message", "envelope"} for kind, _ in parts) and (rest or not _BLANK.fullmatch(text)):
        return Batch([raw], False, (), (Piece("message", raw),), (Set(members=[0]),), "", "", codec)
    pieces = [Piece(kind, text.encode(codec, _LOSSLESS)) for kind, text in parts]
    envelope = _Envelope()
    messages: list[bytes] = []
    for piece, (_, part) in zip(pieces, parts, strict=True):
        if piece.kind == "message":
            envelope.sets[-1].members.append(len(messages))
            messages.append(piece.raw)
        elif piece.kind == "envelope":
            envelope.add(part.rstrip())
    if rest:
        pieces.append(Piece("stray", rest))
    faults = [_stray(piece) for piece in pieces if piece.kind == "stray"] + envelope.faults()
    return Batch(messages, envelope.found, tuple(faults[:_MOST]), tuple(pieces), envelope.filled, envelope.header, envelope.trailer, codec)


def reply(batch: Batch, acks: Sequence[bytes], *, control_id: str, now: datetime) -> bytes:
    """The answer to all that came at once, from the answers to its messages in their order; one is empty where none is to be given.

    A batch is answered by a batch: headers with sender and receiver swapped that name the one that came, a trailer with the count and with what was
    wrong with the envelope. Several messages without one get their answers one after the other. `control_id` is this answer's own.
    """
    if not batch.enveloped or not any(acks):
        return b"".join(acks)
    parts = [_header("FHS", batch.header, batch.codec, control_id, now)] if batch.header else []
    notes = "; ".join(fault.text for fault in batch.faults[:_NOTED])
    for number, each in enumerate(batch.sets, 1):
        answers = [acks[place] for place in each.members if acks[place]]
        if each.header or each.trailer:
            parts.append(_header("BHS", each.header, batch.codec, f"{control_id}-{number}", now))
            answers.append(_trailer("BTS", each.header, batch.codec, len(answers), notes))
        parts += answers
    if batch.header:
        parts.append(_trailer("FTS", batch.header, batch.codec, sum(bool(each.header or each.trailer) for each in batch.sets), ""))
    return b"".join(parts)


class _Envelope:
    """The segments of batches and files, as they come one after the other."""

    def __init__(self) -> None:
        self.header = self.trailer = ""
        self.sets = [Set()]

    def add(self, segment: str) -> None:
        name = segment[:3]
        if name == "FHS":
            self.header = segment
        elif name == "FTS":
            self.trailer = segment
        elif name == "BHS":
            self.sets.append(Set(header=segment))
        else:
            self.sets[-1].trailer = segment
            self.sets.append(Set())

    @property
    def filled(self) -> tuple[Set, ...]:
        return tuple(each for each in self.sets if each.header or each.trailer or each.members)

    @property
    def found(self) -> bool:
        return bool(self.header or self.trailer or any(each.header or each.trailer for each in self.sets))

    def faults(self) -> list[Fault]:
        sets = [each for each in self.sets if each.header or each.trailer]
        faults: list[Fault] = []
        for sequence, each in enumerate(sets, 1):
            faults += _paired("BHS", each.header, "BTS", each.trailer, sequence)
            faults += _counted("BTS", each.trailer, len(each.members), "messages", sequence)
        return faults + _paired("FHS", self.header, "FTS", self.trailer, 1) + _counted("FTS", self.trailer, len(sets), "batches", 1)


def _text(raw: bytes) -> tuple[str, str, bytes]:
    """A codec, the text by it, and bytes at the end that are half a character: the text gives the same bytes back, whatever they are.

    Bytes are a character each unless they are wide, since a header and a line's end are the same bytes in all other sets.
    """
    marked = wide(raw)
    if marked is None:
        return "latin-1", raw.decode("latin-1"), b""
    codec = f"{marked[:6]}-{'be' if raw[0] in _GREATER_FIRST else 'le'}"
    whole = len(raw) - len(raw) % (4 if marked.startswith("utf-32") else 2)
    try:
        return codec, raw[:whole].decode(codec, _LOSSLESS), raw[whole:]
    except UnicodeDecodeError:
        return "latin-1", "", raw


def _parts(text: str) -> Iterator[tuple[Kind, str]]:
    starts = sorted(_starts(text))
    yield from _between(text[: starts[0][0] if starts else len(text)])
    for (blank, start), (end, _) in pairwise([*starts, (len(text), 0)]):
        if blank < start:
            yield "blank", text[blank:start]
        if text.startswith("MSH", start):
            last = len(text[start:end].rstrip(_ENDS)) + start
            last = min(end, _line_end(text, last))
            yield "message", text[start:last]
        else:
            last = min(end, _line_end(text, start))
            yield "envelope", text[start:last]
        yield from _between(text[last:end])


def _starts(text: str) -> Iterator[tuple[int, int]]:
    """Where lines begin that have a header or trailer, and where its name does, after blanks and marks."""
    for name in _NAMES:
        place = text.find(name)
        while place >= 0:
            following = text[place + 3 : place + 4]
            # A trailer may be its name alone, and nothing else that is longer than a name is one.
            alone = name in _TRAILERS and (not following or following in "\r\n")
            if alone or not (not following or following.isalnum() or following.isspace() or following == "_"):
                start = _line_start(text, place)
                if start == 0 or text[start - 1] in "\r\n":
                    yield start, place
            place = text.find(name, place + 3)


def _line_start(text: str, place: int) -> int:
    while place and text[place - 1] in _BEFORE:
        place -= 1
    for mark in _MARKS:
        if text.endswith(mark, 0, place):
            return place - len(mark)
    return place


def _line_end(text: str, start: int) -> int:
    match = _LINE.match(text, start)
    return match.end() if match else start


def _between(text: str) -> Iterator[tuple[Kind, str]]:
    """What stands where no header begins a line: nothing that matters, a message after other text on its line, or what belongs to none."""
    if not text:
        return
    if _BLANK.fullmatch(text):
        yield "blank", text
        return
    loose = _LOOSE.search(text)
    start = loose.start() if loose else len(text)
    if start:
        yield "stray", text[:start]
    if loose:
        yield "message", text[start:]


def _stray(piece: Piece) -> Fault:
    return Fault("100", f"{len(piece.raw)} bytes belong to no message", severity="W", application="stray-text")


def _paired(first: str, header: str, last: str, trailer: str, sequence: int) -> list[Fault]:
    if bool(header) == bool(trailer):
        return []
    absent, present = (last, first) if header else (first, last)
    return [Fault("100", f"There is no {absent} to a {present}", present, sequence, severity="W", application="envelope")]


def _counted(name: str, trailer: str, count: int, what: str, sequence: int) -> list[Fault]:
    fields = trailer.split(trailer[3:4] or "|")
    said = fields[1].strip() if len(fields) > 1 else ""
    if not said or (_COUNT.fullmatch(said) and int(said) == count):
        return []
    text = f"{name}-1 says {int(said)}, but {count} {what} came" if _COUNT.fullmatch(said) else f"{name}-1 is not a number"
    return [Fault("100" if _COUNT.fullmatch(said) else "102", text, name, sequence, 1, severity="W", application="envelope")]


def _header(name: str, asked: str, codec: str, control_id: str, now: datetime) -> bytes:
    separators, encoding, fields = _read(asked)
    answered = fields[_CONTROL_ID - 1] if len(fields) >= _CONTROL_ID else ""
    swapped = (fields + [""] * 6)[2:6]
    time = do(now.strftime("%Y%m%d%H%M%S%z"), separators)
    values = [name, encoding, swapped[2], swapped[3], swapped[0], swapped[1], time, "", "", "", do(control_id, separators), answered]
    return (separators.field.join(values) + "\r").encode(codec, _LOSSLESS)


def _trailer(name: str, asked: str, codec: str, count: int, comment: str) -> bytes:
    separators, _, _ = _read(asked)
    text = separators.field.join((name, str(count), do(comment, separators)) if comment else (name, str(count)))
    return (text + "\r").encode(codec, _LOSSLESS)


def _read(header: str) -> tuple[Separators, str, list[str]]:
    """The separators of a header, as it writes them too, and its fields as the split gives them: the number of each is one more than its place."""
    try:
        separators = separators_of(header)
    except Unreadable:
        return _USUAL, "^~\\&", []
    fields = header.split(separators.field)
    return separators, fields[1], fields
