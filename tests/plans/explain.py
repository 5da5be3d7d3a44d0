"""Plans of the store's statements: prepared as the worker's connections prepare them, and explained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

    from perdure.store.sql import Names

__all__ = ["Plan", "explain"]

_BY_ADDRESS = {"Bitmap Heap Scan", "Tid Scan"}
_BOUNDS = {"Index Cond", "Recheck Cond", "TID Cond"}
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class Plan:
    """A plan as EXPLAIN gives it.

    Attributes:
        nodes: All nodes, from the top.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.nodes = list(_walk(root))

    @property
    def blocks_hit(self) -> int:
        """How many blocks the executed plan has looked at, all of them in memory."""
        return int(self.nodes[0]["Shared Hit Blocks"])

    def paths(self, *tables: str) -> set[str]:
        """How these tables are read: the names of the indexes, or "Seq Scan"; nothing for what is read by address."""
        found = [node for node in self.nodes if node.get("Relation Name") in tables and "Scan" in node["Node Type"]]
        # What a bitmap is made of is below it, without the table's name.
        found += [part for node in found for part in node.get("Plans", ()) if "Bitmap" in part["Node Type"]]
        return {str(node.get("Index Name", node["Node Type"])) for node in found} - _BY_ADDRESS

    def whole_scans(self, *tables: str) -> set[str]:
        """Which of these tables are read from one end to the other, be it along an index."""
        scans = [node for node in self.nodes if node.get("Relation Name") in tables and "Scan" in node["Node Type"]]
        return {str(node["Relation Name"]) for node in scans if not _BOUNDS & node.keys()}

    def rows_read(self, table: str) -> float:
        """How many rows of a table the executed plan has fetched, kept or not; without those it fetched to write."""
        return sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in self.nodes
            if node.get("Relation Name") == table and "Scan" in node["Node Type"]
        )


def explain(
    connection: Connection[Any], names: Names, statement: str, values: Mapping[str, object] | None = None
) -> Plan:
    """Explain the generic plan of a statement; with values, run it as well, and undo what it does."""
    places: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${places.setdefault(match[1], len(places) + 1)}"

    text = _PLACEHOLDER.sub(number, names.statements[statement].decode()).replace("%%", "%")
    given = ["null" if values is None else _literal(values[name]) for name in places]
    with connection.transaction(force_rollback=True):
        connection.execute("set local plan_cache_mode = force_generic_plan")
        connection.execute(f"prepare explained as {text}".encode())
        try:
            options = "format json" + (", analyze, timing off, buffers on" if values is not None else "")
            arguments = f"({', '.join(given)})" if given else ""
            row = connection.execute(f"explain ({options}) execute explained{arguments}".encode()).fetchone()
        finally:
            connection.execute("deallocate explained")
    assert row is not None
    return Plan(row[0][0]["Plan"])


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _literal(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return str(value)
        case list():
            return "'{" + ",".join(map(str, value)) + "}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"
