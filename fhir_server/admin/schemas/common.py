"""What bodies, queries and answers look like that more than one group of addresses has, as data for marshmallow and OpenAPI.

https://marshmallow.readthedocs.io/en/stable/
"""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from fhir_server.admin.pages import MAX_PAGE


class Strict(Schema):
    """A body or a query that takes what it names, and nothing else."""

    class Meta:
        """Options of marshmallow."""

        unknown = RAISE


class Switch(fields.Boolean):
    """true or false, and nothing that could be meant by it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        del attr, data
        if not isinstance(value, bool):
            raise ValidationError("Not a valid boolean.")
        return value


class Paging(Strict):
    """The query of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_PAGE), metadata={"description": "The most items of one page."})
    cursor = fields.String(validate=validate.Length(1, 4000), metadata={"description": "Where a page begins: of the link `next`, as it is."})


class Page(Schema):
    """A part of a list."""

    next = fields.Url(required=True, allow_none=True, metadata={"description": "The address of the next page; null on the last."})


class Problem(Schema):
    """Problem details (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    error = fields.String(required=True, metadata={"description": "The category of the fault, as `forbidden` or `precondition`."})


def moment(description: str, *, may_lack: bool = False) -> fields.Field[Any]:
    """An instant that is shown."""
    return fields.String(required=True, allow_none=may_lack, metadata={"format": "date-time", "description": description})


def shown(description: str, *, may_lack: bool = False) -> fields.String:
    """A text that is shown."""
    return fields.String(required=True, allow_none=may_lack, metadata={"description": description})
