"""Sockets that take connections, made before the processes that serve them: several may share one, and it outlives each of them."""

from __future__ import annotations

import socket
from typing import Final

from fhir_server.settings import SetupError

_BACKLOG: Final = 128


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens; at a free port for 0. Who connects before somebody serves it waits.

    Raises SetupError, which names the `option`, where it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SetupError(f"cannot listen on {host}:{port} ({error.strerror}); free it or choose another with --host and {option}") from None
    return listening
