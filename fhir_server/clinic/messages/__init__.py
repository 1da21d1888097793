"""Messages to people about their appointments, their turn and their record: planned from changes, sent once by e-mail or SMS, stopped by a click."""

from .messages import Messages, announce, called, nearly
from .planning import CONSUMER

__all__ = ["CONSUMER", "Messages", "announce", "called", "nearly"]
