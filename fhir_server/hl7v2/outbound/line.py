"""A connection to a peer by MLLP: one message out, its acknowledgement in. https://www.hl7.org/documentcenter/public/wg/inm/mllp_transport_specification.PDF"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, Self

from fhir_server.settings import Settings

from .peers import Peer

START: Final = b"\x0b"
END: Final = b"\x1c\r"

_MAX_ANSWER: Final = 256 * 1024  # Bytes between two answers, noise included.
_CONNECT_SECONDS: Final = 5
_SLICE: Final = 0.5  # Seconds between two looks whether the process is to end.
_LEAVE_SECONDS: Final = 2  # So long an answer is waited for when it is.


class Unreachable(Exception):  # noqa: N818 - an event: it is tried again
    """The peer cannot be connected to; nothing was sent."""


class Unanswered(Exception):  # noqa: N818 - as above
    """The message was sent, or a part of it, and no answer to it came."""


class Line:
    """One connection. Of no use any more once it has raised."""

    def __init__(self, peer: Peer, settings: Settings, leaving: Callable[[], bool]) -> None:
        """Connects. `leaving` says that the process is to end. Raises Unreachable, with a text that names no secrets."""
        self._seconds = peer.seconds
        self._leaving = leaving
        self._kept = b""
        self._left: float | None = None
        try:
            plain = socket.create_connection((peer.host, peer.port), timeout=_CONNECT_SECONDS)
        except OSError as error:
            raise Unreachable(f"no connection ({error.strerror or type(error).__name__})") from None
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = _secured(plain, peer, settings) if peer.tls else plain
        except (OSError, ValueError) as error:
            plain.close()
            reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or type(error).__name__
            raise Unreachable(f"no TLS ({reason})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, message: bytes, is_answer: Callable[[bytes], bool]) -> bytes:
        """Sends one message and returns the answer to it; others, which come too late for an earlier one, are passed over. Raises Unanswered."""
        others = 0
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(START + message + END)
            deadline = time.monotonic() + self._seconds
            while not is_answer(answer := self._frame(deadline)):
                others += 1
        except OSError as error:
            raise Unanswered(f"the connection broke ({error.strerror or type(error).__name__})") from None
        except Unanswered as error:
            if others:
                raise Unanswered(f"{error}; what came, {others} in number, has another MSA-2 or none") from None
            raise
        return answer

    def _frame(self, deadline: float) -> bytes:
        """What stands in the next frame; what stands before it is dropped."""
        while True:
            _, begun, rest = self._kept.partition(START)
            content, ended, after = rest.partition(END)
            if begun and ended:
                self._kept = after
                return content
            if len(self._kept) > _MAX_ANSWER:
                raise Unanswered("the answer does not end")
            self._kept += self._read(deadline)

    def _read(self, deadline: float) -> bytes:
        while True:
            now = time.monotonic()
            if self._left is None and self._leaving():
                self._left = now
            end = deadline if self._left is None else min(deadline, self._left + _LEAVE_SECONDS)
            if now >= end:
                raise Unanswered(f"no answer within {self._seconds} s")
            self._socket.settimeout(min(end - now, _SLICE))
            try:
                found = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not found:
                raise Unanswered("the peer closed the connection without an answer")
            return found


def _secured(plain: socket.socket, peer: Peer, settings: Settings) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=peer.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.mllp_tls_cert is not None:
        context.load_cert_chain(settings.mllp_tls_cert, settings.mllp_tls_key)
    return context.wrap_socket(plain, server_hostname=peer.host)
