"""Real messages, one a file, as `data/README.md` says; the batch among them gives two."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fhir_server.hl7v2.text import batch

FOLDER: Final = Path(__file__).parent / "data"
FILES: Final = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.hl7"))}
MESSAGES: Final = {
    f"{name}{f'-{number}' if number else ''}": raw for name, whole in FILES.items() for number, raw in enumerate(batch.split(whole).messages)
}
ADMIT: Final = MESSAGES["p11_adt_a01_v251"]
