"""JSON merge patches (RFC 7396): what `perdure jobs proceed --merge` does to a checkpoint. Knows no jobs."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["merged"]


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
