"""The authorization server: SMART App Launch 2.2, OAuth 2.1 and OpenID Connect over the rules of `access.apps`. Authlib is used here alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Blueprint

from fhir_server.interactions import Engine
from fhir_server.settings import Settings

from .api import api_blueprint
from .authorize import authorize_blueprint
from .launching import launch_blueprint
from .services import Services

__all__ = ["blueprint"]


def blueprint(engine: Engine, settings: Settings, clock: Callable[[], float] = time.time) -> Blueprint:
    """Everything below `/oauth`, discovery at the issuer, and `/launch`. `clock` gives seconds since 1970."""
    services = Services(engine, settings, clock)
    oauth = Blueprint("authorization", __name__)
    oauth.register_blueprint(api_blueprint(services))
    oauth.register_blueprint(authorize_blueprint(services, settings, clock))
    oauth.register_blueprint(launch_blueprint(services, settings, clock))
    return oauth
