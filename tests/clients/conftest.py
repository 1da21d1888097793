"""A `fhir-server serve` of its own with the examples in it: what other people's programs meet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

PROGRAM = Path(sys.executable).with_name("fhir-server")
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """`base` of a running server, a `token` that may do everything, and `patients_only` that may read those; `call` runs a command."""
    data = tmp_path_factory.mktemp("clients") / "data"
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET", "PUBLIC_URL"}}

    def call(*arguments: str, stdin: str | None = None) -> str:
        command = [str(PROGRAM), *arguments, "--data", str(data)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environ, input=stdin).stdout.strip()

    command = [str(PROGRAM), "serve", "--data", str(data), "--port", "0", "--mllp-port", "0", "--processes", "2"]
    log = data.with_name("serve.log")
    with log.open("wb") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], log.read_text()
            call("load", str(EXAMPLES))
            patients_only = call("token", "--scope", "system/Patient.rs")
            yield SimpleNamespace(base=words[1], token=call("token", "--scope", "system/*.cruds"), patients_only=patients_only, call=call)
        finally:
            process.terminate()
