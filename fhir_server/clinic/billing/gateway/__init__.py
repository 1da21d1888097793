"""Payments by a gateway: begun here, paid there, and booked once, whoever brings the news.

`Online` begins and looks after them; `events` takes what the gateway tells by itself; `Stripe` is the one gateway of now.
"""

from .chosen import gateway_of
from .gateway import Gateway
from .online import PATH, Online, Shown

__all__ = ["PATH", "Gateway", "Online", "Shown", "gateway_of"]
