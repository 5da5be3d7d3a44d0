"""Types that can't be stored are refused where they stand, with what to do instead."""

from __future__ import annotations

import collections
import collections.abc
import enum
import pathlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pydantic
import pytest

from perdure.core.codec import codec_for
from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from somewhere import OnlyForCheckers  # type: ignore[import-not-found]


@dataclass
class HasInitVar:
    a: int
    seed: InitVar[int]


@dataclass
class HasUnknownName:
    a: OnlyForCheckers


@dataclass
class Deep:
    rows: dict[str, list[complex]]


class Impossible(enum.Enum):
    A = (1, 2)


class Mixed(enum.Enum):
    A = "a"
    B = 1


class Plain:
    pass


class Incomplete(pydantic.BaseModel):
    later: NotYet  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (complex, "complex: complex can't be stored: write tuple[float, float]"),
        (Deep, "Deep.rows[][]: complex can't be stored: write tuple[float, float]"),
        (list[object], "list[object][]: object can't be stored: write Any for any JSON value"),
        (bytearray, "bytearray can't be stored: write bytes"),
        (Plain, "Plain can't be stored: payloads are made of dataclasses, msgspec Structs, pydantic models"),
        (pathlib.Path, "Path can't be stored"),
        (Iterable[int], "can't be stored: write list"),
        (collections.deque[int], "can't be stored"),
        (collections.OrderedDict[str, int], "can't be stored"),
        (Callable[[], int], "can't be stored"),
        (type[int], "can't be stored"),
        (HasInitVar, "HasInitVar.seed: an InitVar isn't kept, so the object can't be made again from what is stored"),
        (HasUnknownName, "an annotation of HasUnknownName uses 'OnlyForCheckers', which "),
        (Impossible, "Impossible can't be stored: the values of an enum must be all strings or all whole numbers"),
        (Mixed, "the values of an enum must be all strings or all whole numbers"),
        (Literal[b"a"], "its values must be strings, whole numbers, None, True, False or members of an enum"),
        (dict[tuple[int, int], int], "dict[tuple[int, int], int], keys: tuple[int, int] can't be stored: keys are str"),
        (dict[bool, int], "keys are str, int, float, an enum"),
        (dict[int | str, int], "keys are strings in JSON, so its members couldn't be told apart; use one"),
        (Incomplete, "Incomplete isn't complete: call Incomplete.model_rebuild() before it is used"),
        ("Base", "can't be stored"),
        (3, "can't be stored"),
        (msgspec.Struct, "can't be stored"),
    ],
)
def test_what_cannot_be_stored_is_refused_where_it_stands(annotation: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        codec_for(annotation)
    assert message in str(refusal.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no `type` statement")
def test_an_alias_that_contains_itself_is_refused() -> None:
    names: dict[str, Any] = {}
    exec("type Endless = list[Endless]", names)  # noqa: S102 - older Pythons can't parse it
    with pytest.raises(DefinitionError, match="it contains itself; let it do so through a class, such as a dataclass"):
        codec_for(names["Endless"])
