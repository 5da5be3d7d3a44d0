"""Whether the tables hold exactly the rows that they should: each of them, each once, and no others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.demo.index import Index

__all__ = ["Difference", "compare", "compare_counts"]

_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Difference:
    """Something that isn't as it should be.

    Attributes:
        table: Where.
        what: What is wrong: "3 rows are missing".
        examples: A few of the rows at fault.
    """

    table: str
    what: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it in a line."""
        examples = f", such as {', '.join(self.examples)}" if self.examples else ""
        return f"{self.table}: {self.what}{examples}"


def compare(found: Index, expected: Index) -> list[Difference]:
    """Compare what the tables hold with what they should, row for row; nothing is returned when all is well.

    A row that was changed is missing as it should be, and there as it should not be.
    """
    differences: list[Difference] = []
    found_rows, expected_rows = found.by_table(), expected.by_table()
    for table, rows in expected_rows.items():
        there, wanted = Counter(found_rows[table]), Counter(rows)
        surplus = there - wanted
        repeated = Counter({row: count for row, count in surplus.items() if row in wanted})
        differences += _difference(table, wanted - there, "missing")
        differences += _difference(table, repeated, "there once too often")
        differences += _difference(table, surplus - repeated, "there that should not be")
    return differences


def compare_counts(counted: Mapping[str, int], expected: Index) -> list[Difference]:
    """Compare what the job itself has counted, page by page in its checkpoint."""
    return [
        Difference(table, f"by its checkpoint the job has written {counted.get(table, 0):,} rows, not {count:,}")
        for table, count in expected.counts().items()
        if counted.get(table, 0) != count
    ]


def _difference(table: str, rows: Counter[tuple[object, ...]], what: str) -> list[Difference]:
    count = rows.total()
    if count == 0:
        return []
    examples = tuple(str(tuple(row)) for row in sorted(rows, key=repr)[:_EXAMPLES])
    return [Difference(table, f"{count:,} row{' is' if count == 1 else 's are'} {what}", examples)]
