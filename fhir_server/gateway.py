"""Between Granian and the WSGI application: requests are answered by a worker's threads, and no thread waits while a body is on its way.

Granian's own WSGI gives a thread to each body until it is there, however long that takes, and has no way to give up on one. Its RSGI has both, so a
worker takes requests by RSGI here, and answers them on the same threads that its WSGI would use.

https://peps.python.org/pep-3333/, https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from fhir_server.outcome import Category, Outcome

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

GRACE: Final = 20.0
"""Seconds that any body may take; what has come earns it more."""
RATE: Final = 32 * 1024
"""Bytes that earn another second: 64 MiB may take 35 minutes, but whoever stops sending is cut off GRACE later at the most."""
HELD: Final = 4
"""Bodies of the largest size whose bytes one process holds while they are on their way: as many as its threads would."""

STREAM: Final = "fhir_server.stream"
"""Where the environment has what takes the Line of an answer that goes on."""
MAX_LINE: Final = 2 * 1024 * 1024
"""Bytes of one answer that goes on: Granian keeps what a slow reader has not taken, and does not tell how much that is."""

_TICK: Final = 1.0
_FIXED: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_CONSTANT: Final[dict[str, Any]] = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
_log = logging.getLogger("fhir_server.gateway")


class BodyAwaited(BaseException):
    """The application asks for a body that is not there yet. Not an Exception, so that nothing on its way takes it for a fault."""


class DirectLoop:
    """What Granian asks of an event loop, without one: the thread that has something to tell runs the callback."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Any = None) -> None:
        """Calls back at once."""
        del context
        callback(*arguments)

    call_soon_threadsafe = call_soon


class Gateway:
    """A WSGI application for RSGI requests.

    A request with a body is put to the application twice: first without the body, which is enough to refuse it (no token, no such address, too
    large); where the application reads from `wsgi.input`, that try ends with BodyAwaited, the body is fetched, and the request is put anew. So an
    application does nothing that must be done once before it has read the body. Answers are sent whole, but for those that go on.

    An answer to which the application has put what takes its Line, at STREAM in the environment, goes on after it was sent: no thread waits for it.

    A body that takes longer than GRACE and RATE allow makes `wsgi.input` raise Outcome `timeout` (408), one that finds no room `unavailable` (503).
    """

    def __init__(
        self,
        application: Wsgi,
        max_body: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        close: Callable[[], None] = lambda: None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`max_body` is in bytes; of a longer body one byte more is read, which tells the application.

        `stop` ends the answers that go on, when the process is to stop; `close` what the application holds, when all is answered.
        """
        self.close = close
        self.stop = stop
        self._application = application
        self.max_body = max_body
        self._room = HELD * (max_body + 1)
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: set[_Reading] = set()

    def __call__(self, watcher: Any) -> None:
        """Answers one request; never raises."""
        protocol = watcher.proto
        try:
            environ = _environ(watcher.scope)
            if environ.get("CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in environ:
                environ["wsgi.input"] = io.BytesIO()
                self.answer(protocol, environ)
                return
            try:
                # Nobody reads the body after such an answer, and Granian ends the connection, often without a word. The next request would be lost.
                self.answer(protocol, environ | {"wsgi.input": _Awaited()}, last=True)
            except BodyAwaited as awaited:
                # Flask's frame and this exception hold each other, and the connection with them, until a garbage collection.
                awaited.__traceback__ = None
                _Reading(self, protocol, environ).start()
        except BaseException as error:  # noqa: BLE001 - the thread goes on
            _log.error("a request could not be answered", exc_info=error)
            protocol.response_empty(500, [])

    def watch(self) -> None:
        """Gives up on bodies that are overdue, for as long as the process runs; for a thread of its own."""
        while True:
            time.sleep(_TICK)
            self.expire()

    def expire(self) -> None:
        """Gives up on the bodies that are overdue now."""
        now = self._clock()
        with self._lock:
            overdue = [reading for reading in self._pending if now > reading.deadline]
        for reading in overdue:
            reading.give_up()

    def now(self) -> float:
        """Seconds of the clock that deadlines are measured by."""
        return self._clock()

    def most(self, declared: str) -> int:
        """Bytes to read of a body."""
        return min(int(declared), self.max_body + 1) if declared.isascii() and declared.isdigit() else self.max_body + 1

    def enter(self, reading: _Reading) -> None:
        """Watches over a body until it leaves."""
        with self._lock:
            self._pending.add(reading)

    def leave(self, reading: _Reading) -> None:
        """Gives back what the body had."""
        with self._lock:
            self._pending.discard(reading)
            self._room += reading.received

    def take(self, size: int) -> bool:
        """Whether there is room for more bytes; where there is, they count as held."""
        with self._lock:
            if size > self._room:
                return False
            self._room -= size
            return True

    def answer(self, protocol: Any, environ: dict[str, Any], *, last: bool = False) -> None:
        """Has the application answer, and sends that; with `last` the connection ends, and it says so. Raises BodyAwaited before anything is sent."""
        status, headers = "500", []

        def start_response(given: str, fields: list[tuple[str, str]], exc_info: Any = None) -> None:
            nonlocal status, headers
            del exc_info
            status, headers = given, fields

        result = self._application(environ, start_response)
        try:
            body = b"".join(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        goes_on = environ.get(STREAM)
        if goes_on is None or not status.startswith("200"):
            protocol.response_bytes(int(status[:3]), [*headers, ("Connection", "close")] if last else headers, body)
            return
        line = Line(protocol.response_stream(200, [(name, value) for name, value in headers if name.lower() != "content-length"]))
        line.send(body)
        goes_on(line)


class Line:
    """An answer that goes on. Whoever has it sends when there is something to tell, and waits for nobody."""

    def __init__(self, transport: Any) -> None:
        """Sends by Granian's stream."""
        self._transport = transport
        self._sent = 0

    def send(self, data: bytes) -> bool:
        """Sends; False where nobody reads any more, or so much was sent that the answer has to end: it may all be waiting for a slow reader."""
        transport = self._transport
        self._sent += len(data)
        if transport is None or self._sent > MAX_LINE:
            self.close()
            return False
        try:
            # Granian keeps it for the connection and returns at once; what it returns is nothing to wait for.
            transport.send_bytes(data)
        except Exception:  # noqa: BLE001 - whatever it is, nobody is there any more
            self.close()
            return False
        return True

    def close(self) -> None:
        """Ends the answer, as Granian does when nobody has the stream any more."""
        self._transport = None


class _Reading:
    """A body on its way, and what becomes of its request. Each chunk is told by a thread of the worker, which has no more to do with it then."""

    def __init__(self, gateway: Gateway, protocol: Any, environ: dict[str, Any]) -> None:
        self._gateway = gateway
        self._protocol = protocol
        self._environ = environ
        self._most = gateway.most(environ.get("CONTENT_LENGTH", ""))
        self._parts: list[bytes] = []
        self._future: Any = None
        self._began = gateway.now()
        self.received = 0

    @property
    def deadline(self) -> float:
        return self._began + GRACE + self.received / RATE

    def start(self) -> None:
        self._protocol.__aiter__()
        self._gateway.enter(self)
        try:
            self._next()
        except BaseException:
            self._gateway.leave(self)
            raise

    def give_up(self) -> None:
        # Of two threads one wins here: that which cancels, or that which brings a chunk. Both lead to _told.
        future = self._future
        if future is not None:
            future.cancel()

    def _next(self) -> None:
        future = self._future = self._protocol.__anext__()
        future.add_done_callback(self._told)

    def _told(self, future: Any) -> None:
        """Takes a chunk and asks for the next; at the end, or where there will be none, puts the request anew."""
        try:
            # A future knows its callback and so this object: not to know it any more frees both.
            self._future = None
            if future.cancelled():
                self._put(_Lost("timeout", "The body did not come in time; send it faster, or less at a time"))
                return
            chunk = future.result()
            if not self._gateway.take(len(chunk)):
                self._put(_Lost("unavailable", "Too many bodies are on their way here at once; try again"))
                return
            self._parts.append(chunk)
            self.received += len(chunk)
            if chunk and self.received < self._most:
                self._next()
            else:
                self._put(io.BytesIO(b"".join(self._parts)))
        except BaseException as error:  # noqa: BLE001 - the thread goes on
            _log.error("a request could not be answered", exc_info=error)
            self._gateway.leave(self)
            self._protocol.response_empty(500, [])

    def _put(self, stream: Any) -> None:
        self._gateway.leave(self)
        self._parts.clear()
        unread = isinstance(stream, _Lost) or self.received > self._gateway.max_body
        self._gateway.answer(self._protocol, self._environ | {"wsgi.input": stream}, last=unread)


class _Awaited:
    """The input of a request whose body is on its way."""

    def read(self, size: int = -1) -> bytes:
        del size
        raise BodyAwaited

    readline = read


class _Lost:
    """The input of a request whose body will not come."""

    def __init__(self, category: Category, text: str) -> None:
        self._category: Category = category
        self._text = text

    def read(self, size: int = -1) -> bytes:
        del size
        raise Outcome(self._category, self._text)

    readline = read


def _environ(scope: Any) -> dict[str, Any]:
    # Values that are not ASCII come as empty, so that a header which cannot be read still counts as sent.
    headers = scope.headers  # A copy each time.
    fields = headers.items()
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = _CONSTANT | {
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
    }
    for name, value in fields:
        key = _key(name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if len(fields) < len(headers):
        for name in headers:
            environ.setdefault(_key(name), "")
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    return environ


def _key(name: str) -> str:
    return _FIXED.get(name) or "HTTP_" + name.upper().replace("-", "_")
