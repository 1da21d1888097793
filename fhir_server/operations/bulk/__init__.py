"""Bulk export: asked for, made in the background, and fetched as NDJSON. https://hl7.org/fhir/uv/bulkdata/STU2/export.html"""

from .making import Maker
from .requests import export, export_file, export_status

__all__ = ["Maker", "export", "export_file", "export_status"]
