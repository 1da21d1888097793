"""The audit trail: events; those of reads, by group commit (`recorder`); found (`search`), chained (`chain`) and kept elsewhere (`archive`)."""

from .events import APPEND, KINDS, WHO, Event, Kind, append, as_json, clean, who

__all__ = ["APPEND", "KINDS", "WHO", "Event", "Kind", "append", "as_json", "clean", "who"]
