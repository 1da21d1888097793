"""Requests between Granian and the application: slow bodies hold nobody up and are given up on in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from fhir_server.gateway import GRACE, HELD, MAX_LINE, RATE, STREAM, DirectLoop, Gateway, Line
from fhir_server.outcome import Outcome

LOOP = DirectLoop()


class Future:
    """As Granian's: it has one end, and tells it to the callback however late that comes."""

    def __init__(self) -> None:
        self._end: bytes | Exception | None = None
        self._cancelled = False
        self._callback: Callable[[Future], None] | None = None

    def add_done_callback(self, callback: Callable[[Future], None]) -> None:
        self._callback = callback
        if self._cancelled or self._end is not None:
            LOOP.call_soon(callback, self, context=None)

    def cancel(self) -> bool:
        if self._cancelled or self._end is not None:
            return False
        self._cancelled = True
        if self._callback is not None:
            LOOP.call_soon(self._callback, self, context=None)
        return True

    def cancelled(self) -> bool:
        return self._cancelled

    def result(self) -> bytes:
        if isinstance(self._end, Exception):
            raise self._end
        assert self._end is not None
        return self._end

    def end(self, told: bytes | Exception) -> None:
        if not self._cancelled:
            self._end = told
            if self._callback is not None:
                LOOP.call_soon_threadsafe(self._callback, self, context=None)


@dataclass
class Protocol:
    """One request's way back, and its body, chunk by chunk as the test sends them."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    future: Future | None = None
    opened: int = 0

    def __aiter__(self) -> Protocol:
        self.opened += 1
        return self

    def __anext__(self) -> Future:
        self.future = Future()
        return self.future

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append((status, dict(headers), body))

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.answers.append((status, dict(headers), b""))

    def send(self, chunk: bytes | Exception) -> None:
        assert self.future is not None
        self.future.end(chunk)


class Headers(dict[str, str]):
    """Values that are not ASCII are left out of the items, as Granian does."""

    def items(self) -> Any:
        return [(name, value) for name, value in super().items() if value.isascii()]


class Door:
    """A gateway over an application that refuses what has no token, and answers with the body's length."""

    def __init__(self) -> None:
        self.time = 0.0
        self.seen: list[dict[str, Any]] = []
        self.gateway = Gateway(self.application, 1_000, lambda: self.time)

    def application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.seen.append(environ)
        if "HTTP_AUTHORIZATION" not in environ:
            start_response("401 Unauthorized", [])
            return [b"no"]
        if environ["HTTP_AUTHORIZATION"] == "fail":
            raise ValueError
        try:
            body = environ["wsgi.input"].read(10_000)
        except Outcome as outcome:
            start_response(f"{outcome.status} Refused", [])
            return [outcome.issues[0].code.encode()]
        start_response("200 OK", [("X-Length", str(len(body)))])
        return [body]

    def request(self, **headers: str) -> Protocol:
        protocol = Protocol()
        named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        scope = SimpleNamespace(
            headers=named,
            method="POST",
            path="/ä",
            query_string="a=%20",
            server="[::1]:8000",
            client="10.0.0.7:5123",
            scheme="http",
            http_version="1.1",
            authority=None,
        )
        self.gateway(SimpleNamespace(proto=protocol, scope=scope))
        return protocol


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_request_without_a_body_is_answered_at_once(door: Door) -> None:
    assert door.request(authorization="x").answers == [(200, {"X-Length": "0"}, b"")]
    environ = door.seen[0]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/Ã¤", "a=%20")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("::1", "8000", "10.0.0.7")
    assert environ["HTTP_HOST"] == ""


def test_who_is_refused_without_the_body_sends_none(door: Door) -> None:
    protocol = door.request(content_length="5")
    assert (protocol.answers, protocol.opened) == ([(401, {"Connection": "close"}, b"no")], 0)


@pytest.mark.parametrize("headers", [{"content_length": "5"}, {"transfer_encoding": "chunked"}])
def test_a_body_is_waited_for_by_nobody(door: Door, headers: dict[str, str]) -> None:
    slow = door.request(authorization="x", **headers)
    slow.send(b"ab")
    assert slow.answers == []
    assert door.request(authorization="x").answers[0][0] == 200
    slow.send(b"cde")
    if "transfer_encoding" in headers:
        slow.send(b"")
    assert slow.answers == [(200, {"X-Length": "5"}, b"abcde")]


def test_a_body_that_does_not_come_is_given_up_on(door: Door) -> None:
    protocol = door.request(authorization="x", content_length="500")
    protocol.send(b"a" * 100)
    door.time = GRACE
    door.gateway.expire()
    assert protocol.answers == []
    door.time = GRACE + 100 / RATE + 0.001
    door.gateway.expire()
    assert protocol.answers == [(408, {"Connection": "close"}, b"timeout")]
    protocol.send(b"too late")
    door.gateway.expire()
    assert len(protocol.answers) == 1


def test_bytes_earn_time(door: Door) -> None:
    door.gateway = Gateway(door.application, 10 * RATE, lambda: door.time)
    protocol = door.request(authorization="x", transfer_encoding="chunked")
    for second in range(1, 31):
        door.time = float(second)
        protocol.send(b"a" * (RATE // 4))
        door.gateway.expire()
        if protocol.answers:
            break
    assert (protocol.answers[0][0], int(door.time)) == (408, int(GRACE / 0.75) + 1)


def test_a_body_that_breaks_off_is_short(door: Door) -> None:
    protocol = door.request(authorization="x", content_length="5")
    protocol.send(b"ab")
    protocol.send(b"")
    assert protocol.answers == [(200, {"X-Length": "2"}, b"ab")]


@pytest.mark.parametrize(
    "headers", [{"content_length": "1001"}, {"content_length": "9" * 50}, {"content_length": "x"}, {"transfer_encoding": "chunked"}]
)
def test_of_a_body_over_the_limit_little_more_is_read(door: Door, headers: dict[str, str]) -> None:
    protocol = door.request(authorization="x", **headers)
    for _ in range(3):
        protocol.send(b"a" * 400)
    assert protocol.answers[0][1] == {"X-Length": "1200", "Connection": "close"}


def test_bodies_on_their_way_are_bounded_together(door: Door) -> None:
    held = [door.request(authorization="x", content_length="1000") for _ in range(HELD)]
    for protocol in held:
        protocol.send(b"a" * 999)
    refused = door.request(authorization="x", content_length="1000")
    refused.send(b"a" * 999)
    assert refused.answers == [(503, {"Connection": "close"}, b"transient")]
    for protocol in held:
        protocol.send(b"a")
    assert [protocol.answers[0][1] for protocol in held] == [{"X-Length": "1000"}] * HELD
    served = door.request(authorization="x", content_length="1000")
    served.send(b"a" * 1000)
    assert served.answers[0][0] == 200


def test_what_fails_is_answered(door: Door) -> None:
    assert door.request(authorization="fail").answers == [(500, {}, b"")]
    protocol = door.request(authorization="x", content_length="5")
    protocol.send(OSError())
    assert protocol.answers == [(500, {}, b"")]
    door.time = 10 * GRACE
    door.gateway.expire()
    assert len(protocol.answers) == 1


def test_a_header_that_cannot_be_read_counts_as_sent(door: Door) -> None:
    door.request(authorization="x", if_match="é")
    assert door.seen[0]["HTTP_IF_MATCH"] == ""


class Transport:
    """Granian's stream: keeps what it is given until the reader has gone."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_reader = True

    def send_bytes(self, data: bytes) -> None:
        if not self.has_reader:
            raise RuntimeError
        self.sent.append(data)


class Streaming(Protocol):
    """A way back that may go on."""

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Transport:
        self.answers.append((status, dict(headers), b""))
        self.transport = Transport()
        return self.transport


def test_an_answer_that_goes_on_is_handed_over_and_holds_no_thread() -> None:
    lines: list[Line] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[STREAM] = lines.append
        start_response(environ["QUERY_STRING"], [("Content-Length", "5"), ("X-Kept", "yes")])
        return [b"first"]

    def request(status: str) -> Streaming:
        protocol = Streaming()
        scope = SimpleNamespace(
            headers=Headers(), method="GET", path="/", query_string=status, server="", client="", scheme="http", http_version="1.1"
        )
        scope.authority = "localhost"
        Gateway(application, 1_000)(SimpleNamespace(proto=protocol, scope=scope))
        return protocol

    assert request("503 No").answers == [(503, {"Content-Length": "5", "X-Kept": "yes"}, b"first")]
    assert lines == []
    protocol = request("200 OK")
    (line,) = lines
    assert protocol.answers == [(200, {"X-Kept": "yes"}, b"")]
    assert line.send(b"second")
    assert protocol.transport.sent == [b"first", b"second"]
    assert not line.send(b"x" * MAX_LINE), "what nobody takes is not kept without end"
    assert not line.send(b"third")


def test_whoever_has_gone_is_told_nothing_more() -> None:
    transport = Transport()
    line = Line(transport)
    transport.has_reader = False
    assert not line.send(b"x")
    transport.has_reader = True
    assert not line.send(b"x")
    line.close()
    assert transport.sent == []
