"""Brings stored payloads up to date: one upgrade function of the task's after another, on plain JSON values.

Says what doesn't resume and why. Writes nothing: a worker stores both payloads anew before it runs a job's handler.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from perdure.core.codec import codec_for
from perdure.errors import PayloadRefused, PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.core.codec import Codec
    from perdure.options import Options
    from perdure.task import Task

__all__ = ["PayloadKind", "bring_up", "decode_current", "read_payload", "read_plain"]

PayloadKind: TypeAlias = Literal["metadata", "execution_metadata", "event"]
"""What an upgrade function is given: which of a job's payloads."""

_ATTRIBUTES: Final[Mapping[PayloadKind, str]] = {
    "metadata": "metadata",
    "execution_metadata": "execution_metadata",
    "event": "events",
}


def read_payload(
    task: Task[Any, Any, Any, Any], kind: PayloadKind, data: bytes, version: int, *, what: str | None = None
) -> Any:
    """Decode what some version of a task's code has written, as the code at hand has it.

    Args:
        task: The task.
        kind: Which payload it is.
        data: As it is stored, JSON.
        version: The version of the code that wrote it.
        what: What to call it in errors; None for its kind.

    Raises:
        PayloadUndecodable: The code at hand can't read it.
    """
    if what is None:
        what = kind.replace("_", " ")
    return decode_current(task, kind, bring_up(what, task.options, kind, data, version), version, what)


def read_plain(data: bytes, *, what: str) -> Any:
    """Decode any payload into plain JSON values, for whom has no types for it.

    Raises:
        PayloadUndecodable: It is nested too deeply, or holds what Python has no value for.
    """
    return codec_for(Any).decode(data, what=what)


def decode_current(task: Task[Any, Any, Any, Any], kind: PayloadKind, data: bytes, version: int, what: str) -> Any:
    """Decode a payload that has been brought up to date; `version` is that of the code that wrote it once.

    Raises:
        PayloadUndecodable: It doesn't fit the task's type.
    """
    codec: Codec[Any] | None = getattr(task, _ATTRIBUTES[kind])
    if codec is None:
        message = f"{what}: the task {task.name!r} takes no events any more"
        raise PayloadUndecodable(message)
    try:
        return codec.decode(data, what=what)
    except PayloadUndecodable as error:
        if version == task.options.version:
            raise
        message = f"{error} (so the upgrades from version {version} to {task.options.version} made it)"
        raise PayloadUndecodable(message) from error


def bring_up(what: str, options: Options, kind: PayloadKind, data: bytes, version: int) -> bytes:
    """Return a payload as the code at hand would have written it.

    Args:
        what: What to call it in errors.
        options: The task's, with its version and upgrades.
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
            f"{what}: it was written by version {version} of the task, and this code is version {options.version}, "
            "so it takes newer code to read it"
        )
        raise PayloadUndecodable(message)
    value: Any = read_plain(data, what=what)
    for at in range(version, options.version):
        value = _upgraded(what, options, kind, value, at)
    try:
        return codec_for(Any).encode(value, what=what, limit=None)
    except PayloadRefused as error:
        message = f"{error}; the upgrades from version {version} to {options.version} have to make plain JSON values"
        raise PayloadUndecodable(message) from error


def _upgraded(what: str, options: Options, kind: PayloadKind, value: Any, version: int) -> Any:
    function = options.upgrades.get(version)
    if function is None:
        known = ", ".join(map(str, options.upgrades)) or "none"
        message = (
            f"{what}: it was written by version {version} of the task, and this code, version {options.version}, has "
            f"no upgrade from it (upgrades: {known})"
        )
        raise PayloadUndecodable(message)
    try:
        upgraded = function(kind, value)
    except Exception as error:
        step = f"its upgrade from version {version} to {version + 1}"
        message = f"{what}: {step} raised {type(error).__name__}: {error}"
        raise PayloadUndecodable(message) from error
    if inspect.iscoroutine(upgraded):
        upgraded.close()
        message = f"{what}: its upgrade from version {version} is an async function; it must be a plain one"
        raise PayloadUndecodable(message)
    return upgraded
