"""The index itself: what the modules of a library define, import and name. Knows no job and no database.

The job calls it page by page; what the tables are compared with at the end is the same in one go.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Definition", "Import", "Index", "Module", "Name", "index_modules", "library_folder", "module_paths"]

# Not the library's own: what was installed beside it, and its tests, which Debian and others don't even ship.
_LEFT_OUT: Final = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})


class Module(NamedTuple):
    """A source file."""

    path: str
    lines: int
    is_readable: bool


class Definition(NamedTuple):
    """A class or a function."""

    path: str
    line: int
    kind: str
    name: str


class Import(NamedTuple):
    """A module, or a name of a module, that is imported."""

    path: str
    line: int
    imported: str


class Name(NamedTuple):
    """A name and how often it is used."""

    path: str
    name: str
    uses: int


@dataclass
class Index:
    """Rows of each kind, in no particular order.

    Attributes:
        modules: One for each file.
        definitions: One for each class and function.
        imports: One for each name imported.
        names: One for each name in a file.
    """

    modules: list[Module] = field(default_factory=list[Module])
    definitions: list[Definition] = field(default_factory=list[Definition])
    imports: list[Import] = field(default_factory=list[Import])
    names: list[Name] = field(default_factory=list[Name])

    def by_table(self) -> dict[str, Sequence[tuple[object, ...]]]:
        """The rows of each table, by its name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def extend(self, other: Index) -> None:
        """Add another's rows."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))

    def counts(self) -> dict[str, int]:
        """How many rows each table has, by its name."""
        return {table: len(rows) for table, rows in self.by_table().items()}


def library_folder() -> Path:
    """Where the running interpreter has its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def module_paths(folder: Path) -> list[str]:
    """Return the paths of a library's modules in its folder, sorted."""
    paths: list[str] = []
    for here, folders, files in os.walk(folder):
        folders[:] = (name for name in folders if name not in _LEFT_OUT)
        inside = Path(here).relative_to(folder)
        paths += ((inside / name).as_posix() for name in files if name.endswith(".py"))
    return sorted(paths)


def index_modules(folder: Path, paths: Iterable[str]) -> Index:
    """Index the modules of these paths in a library's folder."""
    index = Index()
    for path in paths:
        _add(index, path, (folder / path).read_bytes())
    return index


def _add(index: Index, path: str, source: bytes) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a template, say, that only looks like a module
        index.modules.append(Module(path, source.count(b"\n"), is_readable=False))
        return
    index.modules.append(Module(path, source.count(b"\n"), is_readable=True))
    uses: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            index.definitions.append(Definition(path, node.lineno, kind, node.name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            index.imports.extend(Import(path, node.lineno, imported) for imported in _imported(node))
    index.names.extend(Name(path, name, count) for name, count in uses.items())


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    origin = "." * node.level + (node.module or "")
    yield from (f"{origin}:{alias.name}" for alias in node.names)
