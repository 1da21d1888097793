"""Regular expressions without backtracking: time grows with pattern times text, whatever the pattern.

The usual notation (https://hl7.org/fhirpath/N1/#matchesregex--string--boolean) without look-around and back references; Unicode, and the dot
matches line ends. Threads of a Pike machine (https://swtch.com/~rsc/regexp/regexp2.html) keep the leftmost match that a backtracking matcher finds.
About 0.5 µs a character and thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from .errors import FhirPathError

MAX_PATTERN: Final = 2_000
MAX_PROGRAM: Final = 5_000
MAX_STEPS: Final = 3_000_000
_MAX_GROUP_DEPTH: Final = 50
_UNBOUNDED: Final = -1

_Test = Callable[[str], bool]
_Tree = tuple[Any, ...]  # ("char", test) | ("assert", kind) | ("seq", parts) | ("alt", parts) | ("group", n, part) | ("repeat", …)


_Slots = tuple[int | None, ...]
_Thread = tuple[int, _Slots]


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"


_CLASSES: Final[dict[str, _Test]] = {"d": str.isdecimal, "w": _word, "s": str.isspace}
_HEXADECIMAL: Final = frozenset("0123456789abcdefABCDEF")
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


class Match(NamedTuple):
    """Where a match stands: `spans` are start and end of the whole and of each group, None for a group that took no part."""

    spans: tuple[int | None, ...]

    @property
    def start(self) -> int:
        """Index of the first character."""
        return self.spans[0] or 0

    @property
    def end(self) -> int:
        """Index behind the last character."""
        return self.spans[1] or 0


class Regex:
    """A compiled pattern. Its methods raise FhirPathError `too-costly` when the budget is used up, MAX_STEPS where none is given."""

    def __init__(self, program: list[tuple[str, object, int]], groups: int) -> None:
        """Takes what `compile_pattern` made: instructions and the number of groups."""
        self._program = program
        self._slots = 2 * (groups + 1)

    def search(self, text: str, budget: list[int] | None = None) -> Match | None:
        """The leftmost match. `budget` holds the steps that are left and is charged."""
        return self._run(text, 0, budget or [MAX_STEPS], whole=False)

    def fullmatch(self, text: str, budget: list[int] | None = None) -> Match | None:
        """The match of the whole text."""
        return self._run(text, 0, budget or [MAX_STEPS], whole=True)

    def replace(self, text: str, new: str, most: int, budget: list[int] | None = None) -> str | None:
        """The text with every match replaced, `$0` to `$9` in `new` being the groups; None once it is longer than `most`."""
        out: list[str] = []
        size = at = 0
        budget = budget or [MAX_STEPS]
        while at <= len(text):
            found = self._run(text, at, budget, whole=False)
            if found is None:
                break
            piece = text[at : found.start] + _expand(new, text, found)
            if found.end == found.start:
                piece += text[found.end : found.end + 1]
            out.append(piece)
            size += len(piece)
            if size > most:
                return None
            at = found.end + (found.end == found.start)
        out.append(text[at:])
        return "".join(out) if size + len(text) - at <= most else None

    def _run(self, text: str, start: int, budget: list[int], *, whole: bool) -> Match | None:
        threads: list[_Thread] = []
        best: _Slots | None = None
        for at in range(start, len(text) + 1):
            if best is None and (at == start or not whole):
                threads.append((0, (None,) * self._slots))
            if not threads:
                break
            ready, matched, steps = self._follow(threads, text, at, whole=whole)
            best = matched or best
            budget[0] -= steps
            if budget[0] < 0:
                raise FhirPathError("the regular expression takes too many steps on this text", code="too-costly")
            if at < len(text):
                char = text[at]
                threads = [(pc + 1, slots) for pc, slots in ready if self._program[pc][1](char)]  # type: ignore[operator]
        return None if best is None else Match(best)

    def _follow(self, threads: list[_Thread], text: str, at: int, *, whole: bool) -> tuple[list[_Thread], _Slots | None, int]:
        """The threads that wait for the next character, the match of a thread that waits for none, and how many steps it took.

        Threads stand in the order of preference: those behind one that matches are given up.
        """
        program = self._program
        ready: list[_Thread] = []
        seen: set[int] = set()
        stack = threads[::-1]
        while stack:
            pc, slots = stack.pop()
            if pc in seen:
                continue
            seen.add(pc)
            kind, argument, other = program[pc]
            if kind == "char":
                ready.append((pc, slots))
            elif kind == "split":
                stack += ((other, slots), (argument, slots))  # type: ignore[arg-type]
            elif kind == "jump":
                stack.append((other, slots))
            elif kind == "save":
                stack.append((pc + 1, (*slots[:other], at, *slots[other + 1 :])))
            elif kind == "assert":
                if _holds(str(argument), text, at):
                    stack.append((pc + 1, slots))
            elif not whole or at == len(text):
                return ready, slots, len(seen)
        return ready, None, len(seen) + 1


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Regex:
    """The compiled pattern. Raises FhirPathError for a fault in it, for look-around, back references, and what would be too large."""
    if len(pattern) > MAX_PATTERN:
        raise FhirPathError(f"a regular expression of {len(pattern)} characters; {MAX_PATTERN} is the most")
    reader = _Reader(pattern)
    tree = reader.whole()
    program: list[tuple[str, object, int]] = []
    _emit(("group", 0, tree), program)
    program.append(("match", None, 0))
    return Regex(program, reader.groups)


def _expand(new: str, text: str, found: Match) -> str:
    if "$" not in new:
        return new
    out, at = [], 0
    while (dollar := new.find("$", at)) >= 0:
        out.append(new[at:dollar])
        digit = new[dollar + 1 : dollar + 2]
        if digit.isdecimal() and 2 * int(digit) < len(found.spans):
            start, end = found.spans[2 * int(digit) : 2 * int(digit) + 2]
            out.append("" if start is None else text[start:end])
            at = dollar + 2
        else:
            out.append("$")
            at = dollar + 1
    return "".join([*out, new[at:]])


def _holds(kind: str, text: str, at: int) -> bool:
    if kind == "^":
        return at == 0
    if kind == "$":
        return at == len(text)
    edge = (at > 0 and _word(text[at - 1])) != (at < len(text) and _word(text[at]))
    return edge == (kind == "b")


def _emit(tree: _Tree, program: list[tuple[str, object, int]]) -> None:
    if len(program) > MAX_PROGRAM:
        raise FhirPathError("the regular expression repeats too much", code="too-costly")
    match tree:
        case ("char" | "assert" as kind, argument):
            program.append((kind, argument, 0))
        case ("seq", parts):
            for part in parts:
                _emit(part, program)
        case ("group", number, part):
            program.append(("save", None, 2 * number))
            _emit(part, program)
            program.append(("save", None, 2 * number + 1))
        case ("alt", parts):
            _emit_choice(parts, program)
        case ("repeat", part, least, most, greedy):
            _emit_repeat(part, least, most, program, greedy=greedy)


def _emit_choice(parts: list[_Tree], program: list[tuple[str, object, int]]) -> None:
    ends = []
    for part in parts[:-1]:
        split = len(program)
        program.append(("split", None, 0))
        _emit(part, program)
        ends.append(len(program))
        program.append(("jump", None, 0))
        program[split] = ("split", split + 1, len(program))
    _emit(parts[-1], program)
    for end in ends:
        program[end] = ("jump", None, len(program))


def _emit_repeat(part: _Tree, least: int, most: int, program: list[tuple[str, object, int]], *, greedy: bool) -> None:
    for _ in range(least):
        _emit(part, program)
    if most == _UNBOUNDED:
        split = len(program)
        program.append(("split", None, 0))
        _emit(part, program)
        program.append(("jump", None, split))
        program[split] = _split(split + 1, len(program), greedy=greedy)
        return
    splits = []
    for _ in range(most - least):
        splits.append(len(program))
        program.append(("split", None, 0))
        _emit(part, program)
    for split in splits:
        program[split] = _split(split + 1, len(program), greedy=greedy)


def _split(inside: int, outside: int, *, greedy: bool) -> tuple[str, object, int]:
    return ("split", inside, outside) if greedy else ("split", outside, inside)


class _Reader:
    """Pattern to tree."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.groups = 0
        self.depth = 0

    def fault(self, message: str) -> FhirPathError:
        return FhirPathError(f"the regular expression {self.pattern!r} {message} (its character {self.at + 1})")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        if not char:
            raise self.fault("ends too early")
        self.at += 1
        return char

    def whole(self) -> _Tree:
        tree = self.choice()
        if self.peek():
            raise self.fault("has a parenthesis too many")
        return tree

    def choice(self) -> _Tree:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence())
        return ("alt", parts) if len(parts) > 1 else parts[0]

    def sequence(self) -> _Tree:
        parts: list[_Tree] = []
        while self.peek() not in {"", "|", ")"}:
            parts.append(self.quantified(self.atom()))
        return ("seq", parts)

    def quantified(self, part: _Tree) -> _Tree:
        char = self.peek()
        bounds = {"*": (0, _UNBOUNDED), "+": (1, _UNBOUNDED), "?": (0, 1)}.get(char)
        if bounds is not None:
            self.at += 1
        elif char == "{" and (bounds := self.bounds()) is None:
            return part
        if bounds is None:
            return part
        greedy = self.peek() != "?"
        self.at += not greedy
        if self.peek() in {"*", "+"}:
            raise self.fault("repeats a repetition")
        return ("repeat", part, *bounds, greedy)

    def bounds(self) -> tuple[int, int] | None:
        end = self.pattern.find("}", self.at)
        least, comma, most = self.pattern[self.at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not (least.isdecimal() and (most.isdecimal() or not most)) or len(least) + len(most) > len("99999999"):
            # A brace that starts no bounds stands for itself, and atom() will take it.
            return None
        self.at = end + 1
        low = int(least)
        high = int(most) if most else _UNBOUNDED if comma else low
        if max(low, high) > MAX_PROGRAM or _UNBOUNDED < high < low:
            raise self.fault("has impossible bounds")
        return low, high

    def atom(self) -> _Tree:
        char = self.take()
        match char:
            case "(":
                return self.group()
            case "[":
                return ("char", self.set())
            case ".":
                return ("char", lambda _char: True)
            case "^" | "$":
                return ("assert", char)
            case "*" | "+" | "?":
                raise self.fault("repeats nothing")
            case "\\":
                return self.escape()
        return ("char", char.__eq__)

    def group(self) -> _Tree:
        self.depth += 1
        if self.depth > _MAX_GROUP_DEPTH:
            raise self.fault("is nested too deeply")
        number = None
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self.peek() == "?":
            raise self.fault("uses look-around or flags, which are not supported")
        else:
            self.groups += 1
            number = self.groups
        part = self.choice()
        if self.take() != ")":
            raise self.fault("misses a parenthesis")
        self.depth -= 1
        return part if number is None else ("group", number, part)

    def escape(self) -> _Tree:
        char = self.peek()
        if char in {"b", "B"}:
            self.at += 1
            return ("assert", char)
        found = self.escaped()
        return ("char", found if callable(found) else found.__eq__)

    def escaped(self) -> str | _Test:
        char = self.take()
        if char.lower() in _CLASSES:
            test = _CLASSES[char.lower()]
            return test if char.islower() else lambda one: not test(one)
        if char in {"u", "x"}:
            size = 4 if char == "u" else 2
            digits = self.pattern[self.at : self.at + size]
            if len(digits) < size or not set(digits) <= _HEXADECIMAL:
                raise self.fault("has an escape without its digits")
            self.at += size
            return chr(int(digits, 16))
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise self.fault(f"uses \\{char}, which is not supported")
        return char

    def set(self) -> _Test:
        negated = self.peek() == "^"
        self.at += negated
        tests: list[_Test] = []
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        first = True
        while first or self.peek() != "]":
            first = False
            low = self.member()
            if callable(low):
                tests.append(low)
            elif self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in {"", "]"}:
                self.at += 1
                high = self.member()
                if callable(high) or high < low:
                    raise self.fault("has an impossible range")
                ranges.append((low, high))
            else:
                singles.add(low)
        self.at += 1

        def test(char: str) -> bool:
            inside = char in singles or any(low <= char <= high for low, high in ranges) or any(one(char) for one in tests)
            return inside is not negated

        return test

    def member(self) -> str | _Test:
        char = self.take()
        return self.escaped() if char == "\\" else char
