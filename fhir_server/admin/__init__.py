"""The admin API: JSON under `/admin/api/v1`, described by OpenAPI 3.1 at `/admin/openapi.json`, with pages to read it at `/admin/docs`."""

from .api import register

__all__ = ["register"]
