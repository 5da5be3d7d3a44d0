"""What the arguments of `perdure jobs` may be: JSON, and points in time. Click says which argument it was."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import Any, Final

import click

from perdure.durations import read_duration
from perdure.shown import shorten

__all__ = ["due_time", "duration", "job_id", "json_bytes", "json_filter"]

_LARGEST_ID: Final = 2**63 - 1
_LONGEST_ID: Final = 100


def job_id(text: str) -> int:
    """Read a job's id."""
    # The length first: of more digits Python makes no number.
    if not (text.isascii() and text.isdigit() and len(text) < _LONGEST_ID and 1 <= int(text) <= _LARGEST_ID):
        message = f"{shorten(text)} is no job's id, which is a whole number from 1 on"
        raise click.BadParameter(message)
    return int(text)


def json_filter(text: str) -> Any:
    """Read a value that jobs are to contain."""
    value = _json_value(text)
    if value is None:
        message = "null: there is nothing in it that a job could contain"
        raise click.BadParameter(message)
    return value


def json_bytes(text: str) -> bytes:
    """Check JSON, and keep it as it was written; `-` reads it from standard input."""
    if text == "-":
        text = sys.stdin.read()
    _json_value(text)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = f"{shorten(text)} is no text: it isn't in the encoding of this terminal"
        raise click.BadParameter(message) from error


def duration(text: str) -> timedelta:
    """Read a duration."""
    try:
        return read_duration(text, text_seconds=True)
    except ValueError:
        message = f"{shorten(text)} is no duration; allowed are seconds, and 1.02:03:04 for a day, two hours and so on"
        raise click.BadParameter(message) from None


def due_time(text: str) -> datetime | timedelta:
    """Read a point in time with its zone, or a duration from now."""
    try:
        return read_duration(text, text_seconds=True)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = (
            f"{shorten(text)} is no time; allowed are a time with its zone, 2030-01-31T08:00+01:00, and a duration "
            "from now: seconds, or 1.02:03:04 for a day, two hours, three minutes and four seconds"
        )
        raise click.BadParameter(message) from None
    if time.utcoffset() is None:
        message = f"{shorten(text)} has no time zone; for UTC write {text}Z"
        raise click.BadParameter(message)
    return time


def _json_value(text: str) -> Any:
    """Read a value written as JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        message = f"{shorten(text)} is nested too deeply"
        raise click.BadParameter(message) from error
    except ValueError as error:
        hint = "" if '"' in text else "; a text in it has double quotes, and in a shell all of it single ones"
        message = f"{shorten(text)} is no JSON: {error}{hint}"
        raise click.BadParameter(message) from error


def _refuse(constant: str) -> None:
    message = f"JSON has no number {constant}"
    raise ValueError(message)
