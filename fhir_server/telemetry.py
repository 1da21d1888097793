"""Structured logs: one JSON object a line on stderr, with the id of the request they belong to.

What patients and callers entrust to the server stays out of them, wherever a line comes from: query strings are cut down to their parameter names,
exceptions to their type and place (messages repeat values), tokens and passwords to a mark.

https://www.structlog.org/en/stable/standard-library.html#rendering-using-structlog-based-formatters-within-logging
"""

from __future__ import annotations

import logging
import logging.config
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from structlog.typing import Processor

Event = MutableMapping[str, Any]

_MARK: Final = "[removed]"
_SECRET_KEYS: Final = frozenset({"authorization", "body", "cookie", "password", "secret", "token"})
_SECRET_TEXT: Final = re.compile(r"eyJ[\w-]{10,}\.[\w-]+\.[\w-]*|(?<=[Bb]earer )\S+|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_NAME: Final = re.compile(r"[A-Za-z_][\w.:-]{0,80}")
_FRAMES: Final = 12
_OURS: Final = __name__.partition(".")[0]
_extra: Final = structlog.stdlib.ExtraAdder()


def configure(level: str) -> None:
    """Sends log lines from `level` on (debug, info, warning, error) to stderr; those of other libraries from warning on, unless all is asked for."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_PROCESSORS, _renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(standard_library(level))


def standard_library(level: str) -> dict[str, Any]:
    """The same for `logging.config.dictConfig`, with the loggers of the HTTP server, which speak up only when something is wrong."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": _formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            "_granian": {"level": "ERROR", "handlers": ["stderr"], "propagate": False},
            "granian.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
        "root": {"level": "DEBUG" if level == "debug" else "WARNING", "handlers": ["stderr"]},
    }


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, _beside, *_PROCESSORS],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer],
    )


def _beside(logger: Any, method: str, event: Event) -> Event:
    """With what our own lines say beside their text, as `extra`; what other libraries put there may be anything."""
    record = event.get("_record")
    is_ours = isinstance(record, logging.LogRecord) and record.name.partition(".")[0] == _OURS
    return _extra(logger, method, event) if is_ours else event


def _query_names(_: Any, __: str, event: Event) -> Event:
    query = event.get("query")
    if query is not None:
        text = query.decode("latin-1") if isinstance(query, bytes) else str(query)
        names = dict.fromkeys(name for name, _value in parse_qsl(text[:4096], keep_blank_values=True))
        event["query"] = [name if _NAME.fullmatch(name) else _MARK for name in names]
    return event


def _exception_place(_: Any, __: str, event: Event) -> Event:
    info = event.pop("exc_info", None)
    if info is None or info is False:
        return event
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else sys.exception()
    if error is not None:
        event["exception"] = _described(error)
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            event["cause"] = _described(cause)
    return event


def _described(error: BaseException) -> dict[str, Any]:
    return {"type": f"{type(error).__module__}.{type(error).__qualname__}", "at": _places(error.__traceback__)}


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace, limit=-_FRAMES)]


def _without_secrets(_: Any, __: str, event: Event) -> Event:
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS:
            event[key] = _MARK
        elif isinstance(value, str):
            event[key] = _SECRET_TEXT.sub(_MARK, value)
    return event


_PROCESSORS: Final[tuple[Processor, ...]] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _exception_place,
    _query_names,
    _without_secrets,
)
_renderer: Final = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
