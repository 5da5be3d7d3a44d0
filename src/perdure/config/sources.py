"""Where settings are written down: files, the environment, arguments. Finds each value and says where it was.

Reads names, not values: whether a value is allowed is the rules' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from perdure.config.keys import DSN, TOP_LEVEL, VARIABLES, key_named, pascal, unknown_key, unknown_variable
from perdure.config.rules import show_value
from perdure.config.sections import SECTIONS, Section
from perdure.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Given", "Problems", "from_arguments", "from_environment", "from_file"]

Problems = list[str]
"""What is wrong so far: all of it is reported at once, so that one start shows every mistake."""

_OWN_FILE = "perdure.toml"
_PROJECT_FILE = "pyproject.toml"


class Given(NamedTuple):
    """A value that somebody gave for a key.

    Attributes:
        path: `"dsn"`, or section and key: `"scheduling.batch_size"`.
        value: The value as it was found.
        origin: Where that was, in words.
        is_text: Whether everything is text there.
    """

    path: str
    value: object
    origin: str
    is_text: bool = False


def from_arguments(arguments: Mapping[str, object], problems: Problems) -> Iterator[Given]:
    """Take what the caller passed; None is not given."""
    for name, value in arguments.items():
        if name == DSN and value is not None:
            yield Given(DSN, value, "argument")
        elif value is not None:
            yield from _section(name, value, "argument", problems)


def from_environment(environ: Mapping[str, str], problems: Problems) -> Iterator[Given]:
    """Take the `PERDURE_…` variables, and complain of those that only look like one of them."""
    for variable in sorted(environ):
        if variable in VARIABLES:
            yield Given(VARIABLES[variable], environ[variable], variable, is_text=True)
        elif problem := unknown_variable(variable):
            problems.append(problem)


def from_file(file: Path | None, problems: Problems) -> Iterator[Given]:
    """Take the settings of `file`, or else of the file that the current folder has, if it has one.

    Raises:
        ConfigError: The file can't be read, or isn't what its name says.
    """
    if file is not None:
        content = _content(file)
        if content is None and file.name == _PROJECT_FILE:
            message = f"{file}: has no table [tool.perdure]"
            raise ConfigError(message)
        yield from _sections(content, _origin(file), problems)
        return
    for candidate in (Path(_OWN_FILE), Path(_PROJECT_FILE)):
        content = _content(candidate) if candidate.exists() else None
        if content is not None:
            yield from _sections(content, _origin(candidate), problems)
            return


def _origin(file: Path) -> str:
    return f"{file} [tool.perdure]" if file.name == _PROJECT_FILE else str(file)


def _content(file: Path) -> object:
    """The file's settings; None when it is a pyproject.toml that holds none."""
    content = _parse(file)
    if file.name != _PROJECT_FILE:
        return content
    tool = cast("dict[str, object]", content).get("tool")
    return cast("dict[str, object]", tool).get("perdure") if isinstance(tool, dict) else None


def _parse(file: Path) -> object:
    try:
        text = file.read_text(encoding="utf-8-sig")  # .NET's tools write a byte order mark
    except OSError as error:
        message = f"{file}: can't be read: {error.strerror or error}"
        raise ConfigError(message) from error
    except UnicodeEncodeError:
        message = f"{str(file)!r}: no file here can have this name"
        raise ConfigError(message) from None
    except UnicodeDecodeError as error:
        message = f"{file}: is not UTF-8 (byte {error.start})"
        raise ConfigError(message) from None
    try:
        match file.suffix.lower():
            case ".toml":
                import tomllib  # noqa: PLC0415 - most apps have no such file

                return tomllib.loads(text)
            case ".json":
                return json.loads(text, object_pairs_hook=_without_repeats)
            case _:
                message = f"{file}: a settings file ends in .toml or .json"
    except (ValueError, RecursionError) as error:
        # Not chained: the parser's error holds the whole text, passwords included.
        message = f"{file}: is not valid {file.suffix[1:].upper()}: {error}"
    raise ConfigError(message)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            message = f"the key {key!r} is there twice"
            raise ValueError(message)
        found[key] = value
    return found


def _sections(content: object, origin: str, problems: Problems) -> Iterator[Given]:
    if not isinstance(content, Mapping):
        message = f"{origin}: is {_kind(content)}; allowed is a mapping with the keys {', '.join(TOP_LEVEL)}"
        raise ConfigError(message)
    written = cast("Mapping[object, object]", content)
    # The C# library's documentation shows each section by itself; a file may hold just that.
    alone = next((name for name, section in SECTIONS.items() if _is_section_alone(written, section)), None)
    if alone:
        yield from _section(alone, written, origin, problems)
        return
    for key, value in _known(written, TOP_LEVEL, origin, problems):
        if key == DSN:
            yield Given(DSN, value, origin)
        else:
            yield from _section(key, value, origin, problems)


def _is_section_alone(written: Mapping[object, object], section: type[Section]) -> bool:
    names = {pascal(key) for key in section.rules()}
    return bool(names & written.keys()) and not {pascal(key) for key in TOP_LEVEL} & written.keys()


def _section(name: str, value: object, origin: str, problems: Problems) -> Iterator[Given]:
    section = SECTIONS[name]
    if isinstance(value, section):
        value = value.given()
    if not isinstance(value, Mapping):
        problems.append(f"{name} ({origin}): is {_kind(value)}; allowed is a mapping or a {section.__name__}")
        return
    for key, setting in _known(
        cast("Mapping[object, object]", value), tuple(section.rules()), f"{name}, {origin}", problems
    ):
        yield Given(f"{name}.{key}", setting, origin)


def _known(
    written: Mapping[object, object], keys: tuple[str, ...], place: str, problems: Problems
) -> Iterator[tuple[str, object]]:
    seen: dict[str, object] = {}
    for spelling, value in written.items():
        # Code may hand over a mapping whose keys are anything at all.
        key = key_named(spelling, keys) if isinstance(spelling, str) else None
        if key is None:
            problems.append(unknown_key(str(spelling), place, keys))
        elif key in seen:
            problems.append(f"{spelling!r} ({place}): is the same key as {seen[key]!r}, which is there too")
        else:
            seen[key] = spelling
            yield key, value


def _kind(value: object) -> str:
    """A value in the wrong place may be anything, a password too: its type says enough."""
    return (
        show_value(value)
        if value is None or isinstance(value, bool | int)
        else f"a value of type {type(value).__name__}"
    )
