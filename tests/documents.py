"""What a page of documentation tells people to type is typed, against a server of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fhir_server import settings

ROOT: Final = Path(__file__).parents[1]
PROGRAM: Final = str(Path(sys.executable).with_name("fhir-server"))


@dataclass(frozen=True)
class Served:
    """A server as it runs: the FHIR base, the port of MLLP, its data directory, and the header of an administrator."""

    base: str
    mllp: str
    data: Path
    headers: dict[str, str]


def blocks_of(page: str) -> list[str]:
    """What is to be typed; blocks of other languages, as console, only show something."""
    return re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@contextmanager
def serving(data: Path, *options: str, **own: str) -> Iterator[Served]:
    """A server on a data directory, with settings of its own."""
    command = [PROGRAM, "serve", "--data", str(data), "--port", "0", "--mllp-port", "0", *options]
    log = data.with_name("serve.log")
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=_environ() | own, cwd=ROOT) as process,
    ):
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], log.read_text()
            mllp = re.findall(r"^mllp +mllp://127.0.0.1:([0-9]+)$", log.read_text(), re.MULTILINE)
            yield Served(words[1], mllp[0], data, {"Authorization": f"Bearer {call('token', '--data', str(data))}"})
        finally:
            process.terminate()


def call(*command: str) -> str:
    """What a command of the program prints."""
    return subprocess.run([PROGRAM, *command], capture_output=True, text=True, check=True, env=_environ(), cwd=ROOT).stdout.strip()


def outputs_of(blocks: Sequence[str], server: Served, **own: str) -> list[str]:
    """What each block prints, all run in order in one shell that stops at the first fault."""
    script = "set -euo pipefail\n" + "printf '\\036'\n".join(f"{block}\n" for block in blocks)
    own |= {"DATA": str(server.data), "FHIR": server.base, "MLLP": server.mllp, "TMPDIR": str(server.data.parent)}
    own["PATH"] = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=False, env=_environ() | own, cwd=ROOT)
    found = done.stdout.split("\x1e")
    assert done.returncode == 0, f"block {len(found)}: {found[-1]}\n{done.stderr}"
    assert len(found) == len(blocks)
    return found


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in settings.NAMES}
