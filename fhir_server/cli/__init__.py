"""The command `fhir-server`: one file per group of commands. What a command needs is imported when it runs, so that `--help` answers at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType

import click

from fhir_server.outcome import Outcome
from fhir_server.settings import SetupError

from . import audit, background, backup, data, doctor, hl7v2, mllp, package, serve, token, user


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="fhir-server")
def root() -> None:
    """A FHIR R4 server with the work of a clinic built in.

    Settings come from the environment or a .env file; `fhir-server check` lists them.
    """


for _group in (serve, mllp, background, data, backup, token, user, audit, hl7v2, doctor, package):
    for _command in _group.COMMANDS:
        root.add_command(_command)


class _Interrupted(BaseException):
    """A signal asks for the end. No error, and so not caught as one: what was begun is undone on the way out."""


def main(arguments: Iterable[str] | None = None) -> None:
    """Runs one command and ends the process: 0 when done, 1 when it failed or a signal came, 2 for a wrong call. A failure is one line on stderr."""
    code = 1
    # What libraries log is not for whoever types a command; services have a log of their own.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        # Without this SIGTERM would leave an embedded database behind that runs, and half of what is all or nothing.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        result = root.main(args=None if arguments is None else list(arguments), prog_name="fhir-server", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except (click.Abort, _Interrupted):
        _say("interrupted")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        _say(f"{error.format_message()} (see fhir-server --help)" if error.exit_code != 1 else error.format_message())
        code = error.exit_code
    except (SetupError, Outcome) as error:
        _say(str(error))
    except BrokenPipeError:
        # The reader of a pipe left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - whoever types a command is never shown a traceback
        _say(f"unexpected fault, {type(error).__name__}: {error}; `fhir-server check` may know more")
    sys.exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Interrupted


def _say(text: str) -> None:
    click.echo(f"fhir-server: {' '.join(text.split())}", err=True)
