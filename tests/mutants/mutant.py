"""What a mutant is, and whether it still is one: code moves on, and one may come to change nothing."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Edit", "Mutant", "functions"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One text for another.

    Attributes:
        file: Under src/perdure.
        before: Exactly as it stands there, once.
        after: What stands there instead.
    """

    file: str
    before: str
    after: str

    def rotten(self, root: Path) -> str | None:
        """Say why it can't be made in this source tree; None when it can."""
        path = root / "src" / "perdure" / self.file
        if not path.is_file():
            return f"there is no {self.file}"
        count = path.read_text(encoding="utf-8").count(self.before)
        return None if count == 1 else f"{self.file} has {count} times, not once: {self.before!r}"

    def make(self, root: Path) -> None:
        """Make it in this source tree."""
        path = root / "src" / "perdure" / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard taken out.

    Attributes:
        name: Unique, a few words: what is done.
        breaks: What is no longer true.
        file: As in `Edit`; so are `before` and `after`.
        before: Of the first edit.
        after: Of the first edit.
        tests: Of which one must fail, as pytest names them: as few and as quick as there are.
        more: Edits that are needed beside the first.
        timeout_seconds: For its tests in all; longer, and nothing is known of it.
        breaks_import: No test even begins: it shows that it is the copy which is tried.
    """

    name: str
    breaks: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    more: tuple[Edit, ...] = field(default=(), kw_only=True)
    timeout_seconds: float = field(default=120.0, kw_only=True)
    breaks_import: bool = field(default=False, kw_only=True)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All of them."""
        return Edit(self.file, self.before, self.after), *self.more

    @property
    def changes_schema(self) -> bool:
        """Whether databases that were migrated without it lack it."""
        return any(edit.file.startswith("store/migrations/") for edit in self.edits)

    def rotten(self, root: Path) -> list[str]:
        """Say why it is no mutant of this source tree any more; nothing when it is."""
        reasons = [reason for edit in self.edits if (reason := edit.rotten(root)) is not None]
        reasons += [f"it changes nothing in {edit.file}" for edit in self.edits if edit.before == edit.after]
        if not self.tests:
            reasons.append("no test is named that must notice it")
        for test in self.tests:
            file, _, function = test.partition("::")
            path = root / file
            if not path.is_file():
                reasons.append(f"there is no {file}")
            elif function.partition("[")[0] not in functions(path):
                reasons.append(f"{file} has no {function}")
        return reasons


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of a file's functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
