"""JSON merge patches (RFC 7396): what `perdure jobs proceed --merge` does to a checkpoint. Knows no jobs."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["lost_keys", "merged"]


def merged(target: Any, patch: Any) -> Any:
    """Return the target with the patch applied: null removes a key, objects are merged, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for key, value in cast("dict[str, Any]", patch).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def lost_keys(wanted: Any, stored: Any, path: str = "") -> list[str]:
    """Name the keys that were wanted and aren't in what came of it: the type doesn't know them."""
    if not isinstance(wanted, dict):
        return []
    there: dict[str, Any] = cast("dict[str, Any]", stored) if isinstance(stored, dict) else {}
    lost: list[str] = []
    for key, value in cast("dict[str, Any]", wanted).items():
        if key in there:
            lost += lost_keys(value, there[key], f"{path}{key}.")
        else:
            lost.append(f"{path}{key}")
    return lost
