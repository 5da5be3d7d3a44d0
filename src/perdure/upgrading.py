"""Brings stored payloads up to date: one upgrade function of the task's after another, on plain JSON values.

Says what doesn't resume and why. Writes nothing: a worker stores both payloads anew before it runs a job's handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from perdure.errors import PayloadUndecodable

if TYPE_CHECKING:
    from perdure.options import Options

__all__ = ["PayloadKind", "bring_up"]

PayloadKind: TypeAlias = Literal["metadata", "execution_metadata", "event"]
"""What an upgrade function is given: which of a job's payloads."""

_encode = msgspec.json.Encoder().encode


def bring_up(where: str, options: Options, kind: PayloadKind, data: bytes, version: int) -> bytes:
    """Return a payload as the code at hand would have written it.

    Args:
        where: The task's name, for errors.
        options: Its version and upgrades.
        kind: Which payload it is.
        data: As it is stored, JSON.
        version: The version of the code that wrote it.

    Raises:
        PayloadUndecodable: The code is older than the payload, has no upgrade for it, or its upgrade raises.
    """
    if version == options.version:
        return data
    if version > options.version:
        message = (
            f"{where}: {kind}: it was written by version {version} of the task, and this code is version "
            f"{options.version}: it waits for a worker with the newer code"
        )
        raise PayloadUndecodable(message)
    value: Any = msgspec.json.decode(data)
    for at in range(version, options.version):
        value = _upgraded(where, options, kind, value, at)
    try:
        return _encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        message = f"{where}: {kind}: the upgrades from version {version} made what is no JSON: {error}"
        raise PayloadUndecodable(message) from error


def _upgraded(where: str, options: Options, kind: PayloadKind, value: Any, version: int) -> Any:
    function = options.upgrades.get(version)
    if function is None:
        known = ", ".join(map(str, options.upgrades)) or "none"
        message = (
            f"{where}: {kind}: it was written by version {version} of the task, and this code, version "
            f"{options.version}, has no upgrade from it (upgrades: {known})"
        )
        raise PayloadUndecodable(message)
    try:
        return function(kind, value)
    except Exception as error:
        what = f"its upgrade from version {version} to {version + 1}"
        message = f"{where}: {kind}: {what} raised {type(error).__name__}: {error}"
        raise PayloadUndecodable(message) from error
