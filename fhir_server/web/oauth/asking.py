"""An authorization request, from its parameters to what can be asked of the person.

What comes from a client that is not known, or would lead to an address that is not its own, is told on a page; all else is told to the app.
https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.apps import Client
from fhir_server.access.apps.requests import NewRequest
from fhir_server.access.apps.words import LONGEST, grantable, opens
from fhir_server.outcome import Outcome

from .services import Services

CLINICIANS: Final = frozenset({"admin", "doctor", "staff"})
"""Roles that see more than their own record, and so choose whose record an app is opened for."""

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_\-]{43}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_LONGEST: Final = {"state": 2000, "nonce": 500, "launch": 200}
_PROMPTS: Final = frozenset({"none", "consent", "login", "select_account"})


class Distrusted(Outcome):
    """A request that is not answered to the app, since nobody knows whose it is."""

    def __init__(self, text: str) -> None:
        """Takes what is wrong, for people."""
        super().__init__("parameter", text)


class Refused(Exception):  # noqa: N818 - what the app is told, not a fault of ours
    """A request that is refused to the app: `error` is the code for it."""

    def __init__(self, error: str, text: str) -> None:
        """Takes the code and a text for developers."""
        super().__init__(text)
        self.error = error
        self.text = text


@dataclass(frozen=True, slots=True)
class Asking:
    """A request whose client is known and whose redirect URI is the client's."""

    client: Client
    redirect_uri: str
    params: dict[str, str]

    @property
    def state(self) -> str | None:
        """What the app gets back as it is."""
        return self.params.get("state")

    @property
    def prompts(self) -> frozenset[str]:
        """How the person is to be asked: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest."""
        return frozenset(self.params.get("prompt", "").split()) & _PROMPTS


def trusted(services: Services, params: dict[str, str]) -> Asking:
    """The request of parameters, where it can be told to the app what comes of it. Raises Distrusted."""
    client = services.client(params.get("client_id", ""))
    if client is None or "authorization_code" not in client.grant_types:
        raise Distrusted("The app that has sent you here is not known to the clinic, or may not be used any more")
    redirect_uri = params.get("redirect_uri")
    # Letter by letter: https://www.rfc-editor.org/rfc/rfc9700#section-2.1.
    if redirect_uri is None or redirect_uri not in client.redirect_uris:
        raise Distrusted("The app that has sent you here wants to be answered at an address that is not its own")
    return Asking(client, redirect_uri, params)


def check(services: Services, asking: Asking) -> None:
    """Raises Refused for a request that cannot be granted to anybody."""
    params = asking.params
    if params.get("response_type") != "code":
        raise Refused("unsupported_response_type", "The response type here is code")
    if "request" in params or "request_uri" in params:
        raise Refused("request_not_supported", "Parameters stand in the address, not in a request object")
    if params.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "The response mode here is query")
    if params.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(params.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE is needed, with the method S256")
    if params.get("aud", "").removesuffix("/") not in {f"{each}/fhir" for each in services.addresses()}:
        raise Refused("invalid_request", f"aud is the FHIR base: {services.issuer()}/fhir")
    if any(len(params.get(name, "")) > most for name, most in _LONGEST.items()):
        raise Refused("invalid_request", "A parameter is too long")
    if not _SECONDS.fullmatch(params.get("max_age", "0")):
        raise Refused("invalid_request", "max_age is a number of seconds")
    if len(params.get("scope", "")) > LONGEST:
        raise Refused("invalid_scope", f"The scopes together have more than {LONGEST} characters")


def wants_sign_in(services: Services, asking: Asking, browser: str) -> bool:
    """Whether the app wants the person to sign in anew, or to have done so not as long ago as with this browser."""
    if "login" in asking.prompts:
        return True
    signed_in = services.sessions.signed_in(browser)
    return "max_age" in asking.params and (signed_in is None or services.clock() - signed_in.timestamp() > int(asking.params["max_age"]))


def wanted(services: Services, asking: Asking, account: Account) -> NewRequest:
    """What the person is asked for: of the scopes those that can be theirs and the app's, and the record it is about as far as it is known.

    A launch token is used up. Raises Refused where nothing is left, or the launch is none of the person's.
    """
    params, client = asking.params, asking.client
    words = list(grantable(params.get("scope", ""), client.scope, account.roles))
    patient = None if CLINICIANS & set(account.roles) else account.patient
    encounter = None
    if "launch" in words and "launch" in params:
        launch = services.requests.use_launch(params["launch"], account.id, client.id, services.now())
        if launch is None:
            raise Refused("invalid_request", "The launch is not of this person and app, is too old, or was used before")
        patient, encounter = launch.patient, launch.encounter
    elif "launch" in words:
        words.remove("launch")
    if encounter is None and "launch/encounter" in words:
        words.remove("launch/encounter")
    if not opens(words):
        raise Refused("invalid_scope", "None of the scopes can be given to this app and person")
    if patient is None and not CLINICIANS & set(account.roles):
        raise Refused("access_denied", "The person has no record here")
    return NewRequest(
        client.id, asking.redirect_uri, " ".join(words), params["code_challenge"], asking.state, params.get("nonce"), patient, encounter
    )
