"""`/users`: accounts from the invitation to the end."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.accounts.accounts import Account, NewAccount
from fhir_server.access.accounts.administration import Wanted
from fhir_server.access.accounts.invitations import Letter
from fhir_server.access.accounts.sessions import revoke
from fhir_server.store.database import Connection

from .exchange import Answer, act, answered, check_match, etag, tagged
from .office import instant, office
from .pages import paged, position
from .routes import PREFIX, Routes
from .schemas import users as schemas
from .schemas.sessions import Revoked

routes: Final = Routes("users", "Accounts: who may sign in, as whom, with which roles.")


@routes.route("/users")
class Users(MethodView):
    """All accounts."""

    @routes.arguments(schemas.UserQuery, location="query")
    @routes.response(200, schemas.Users)
    def get(self, asked: dict[str, Any]) -> Response:
        """List accounts

        By login. E-mail addresses and telephone numbers are masked.
        """
        after = position(asked)
        wanted = Wanted(asked.get("login"), asked.get("role"), asked.get("state"))
        with office().store.database.connection() as connection:
            rows = office().administration.page(connection, wanted, after[0] if after else None, asked["limit"] + 1)
        return paged(asked, rows, lambda row: (office().administration.place(row),), lambda row: _shown(row) | _masked(row))

    @routes.arguments(schemas.NewUser)
    @routes.creates(schemas.User)
    def post(self, given: dict[str, Any]) -> Response:
        """Make an account

        Without a password an invitation goes out by mail, or else by SMS; where neither reaches, `fhir-server user otp LOGIN` shows a code. With it
        `POST /auth/invitation` takes `login`, `code` and `password`.
        """
        here = office()
        fields = {name: value for name, value in given.items() if value is not None}
        invited = "password" not in fields
        # Nobody knows the password of an account that waits for its owner.
        known = {"password": secrets.token_urlsafe(32), "state": "invited"} if invited else {}
        new = NewAccount(**fields | known | {"roles": tuple(fields["roles"])})

        def work(connection: Connection) -> Answer:
            account = here.administration.add(connection, new, here.now())
            letter = here.invitations.write(connection, account, here.now()) if invited else None
            return replace(tagged(_shown(account), made=f"{PREFIX}/users/{account.id}"), then=_sending(letter))

        return act(work)


@routes.route("/users/<identity>")
class User(MethodView):
    """One account."""

    @routes.tagged(schemas.User)
    def get(self, identity: str) -> Response:
        """Show an account"""
        with office().store.database.connection() as connection:
            account = office().administration.one(connection, identity)
        return answered(_shown(account), headers={"ETag": etag(_shown(account))})

    @routes.arguments(schemas.UserChanges)
    @routes.tagged(schemas.User)
    @routes.conditional
    def patch(self, given: dict[str, Any], identity: str) -> Response:
        """Change an account

        Its sessions end at once where rights or identities change, or where it is not active any more. The last active administrator stays one.
        """
        here = office()

        def work(connection: Connection) -> Answer:
            account = _locked(connection, identity)
            return tagged(_shown(here.administration.change(connection, account, given, here.now())))

        return act(work)

    @routes.empty
    @routes.conditional
    def delete(self, identity: str) -> Response:
        """Disable an account

        It is not deleted: what was done refers to it. Its sessions end at once.
        """
        here = office()

        def work(connection: Connection) -> Answer:
            here.administration.change(connection, _locked(connection, identity), {"state": "disabled"}, here.now())
            return Answer(status=204)

        return act(work)


@routes.route("/users/<identity>/unlock", methods=["POST"])
@routes.empty
@routes.idempotent
def unlock(identity: str) -> Response:
    """Unlock an account

    Opens it if it is locked, and forgets the failed sign-ins that keep its owner out.
    """
    here = office()

    def work(connection: Connection) -> Answer:
        account = _locked(connection, identity)
        if account.state == "locked":
            here.administration.change(connection, account, {"state": "active"}, here.now())
        here.sign_in.desk.forgive(connection, account, here.now())
        return Answer(status=204)

    return act(work)


@routes.route("/users/<identity>/reset-password", methods=["POST"])
@routes.response(200, schemas.NewPassword)
@routes.idempotent
def reset_password(identity: str) -> Response:
    """Give an account a new password

    It is shown this once, and has to be changed at the next sign-in. Sessions end at once.
    """
    here = office()

    def work(connection: Connection) -> Answer:
        return Answer({"password": here.administration.reset_password(connection, _locked(connection, identity), here.now())})

    return act(work)


@routes.route("/users/<identity>/reset-otp", methods=["POST"])
@routes.empty
@routes.idempotent
def reset_otp(identity: str) -> Response:
    """Take a lost authenticator app off an account

    Sessions end at once. Codes go by mail or SMS from then on.
    """
    here = office()

    def work(connection: Connection) -> Answer:
        here.accounts.drop_totp(connection, _locked(connection, identity).id, here.now())
        return Answer(status=204)

    return act(work)


@routes.route("/users/<identity>/invite", methods=["POST"])
@routes.response(202, schemas.Invited)
@routes.idempotent
def invite(identity: str) -> Response:
    """Invite the owner of an account again

    The code of the invitation before is void. Within 30 seconds of it: 429.
    """
    here = office()

    def work(connection: Connection) -> Answer:
        letter = here.invitations.write(connection, _locked(connection, identity), here.now())
        return Answer({"sent": letter.way if letter is not None else None}, 202, then=_sending(letter))

    return act(work)


@routes.route("/users/<identity>/sessions", methods=["DELETE"])
@routes.response(200, Revoked)
def revoke_sessions(identity: str) -> Response:
    """End all sessions of an account"""
    here = office()

    def work(connection: Connection) -> Answer:
        account = _locked(connection, identity)
        return Answer({"revoked": revoke(connection, here.now(), account=account.id)})

    return act(work)


def _locked(connection: Connection, identity: str) -> Account:
    """The account, for as long as the transaction lasts, in the state that If-Match names if there is one."""
    account = office().administration.one(connection, identity, lock=True)
    check_match(_shown(account))
    return account


def _sending(letter: Letter | None) -> Any:
    return (lambda: office().invitations.send(letter)) if letter is not None else (lambda: None)


def _shown(account: Account) -> dict[str, Any]:
    names = (
        "id",
        "login",
        "state",
        "email",
        "email_proved",
        "phone",
        "phone_proved",
        "practitioner",
        "patient",
        "related_person",
        "password_expired",
    )
    return {name: getattr(account, name) for name in names} | {
        "roles": list(account.roles),
        "fhirUser": account.fhir_user,
        "totp": account.totp_secret is not None,
        "created": instant(account.created),
    }


def _masked(account: Account) -> dict[str, Any]:
    name, at, domain = (account.email or "").partition("@")
    email = f"{name[:1]}***{at}{domain}" if account.email is not None else None
    return {"email": email, "phone": f"***{account.phone[-2:]}" if account.phone is not None else None}
