"""Servers outside, that the program speaks to in a test: each at a free port of this machine, with what it hears and answers left to the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


class Handler(BaseHTTPRequestHandler):
    """One that takes what it is asked by GET and POST in `take`, reads and answers in a line each, and writes no log."""

    def take(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.take()

    def do_POST(self) -> None:
        self.take()

    def sent(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def http_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server, as `http://127.0.0.1:1234`; it ends with the block, once it has answered."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class MailServer(Controller):
    """A mail server that hands what it hears to a handler of aiosmtpd's."""

    def __init__(self, handler: object) -> None:
        # Bound here, and not by the library: nobody else can take the port meanwhile.
        self._listening = socket.create_server(("127.0.0.1", 0))
        super().__init__(handler, hostname="127.0.0.1", port=self._listening.getsockname()[1])

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._listening)
