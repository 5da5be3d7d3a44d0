"""The tag of a class: the text that tells it from the other classes of a union in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

from perdure.errors import DefinitionError

__all__ = ["TAG_KEY", "Tag", "tag_of"]

TAG_KEY: Final = "type"
"""The key under which a tag stands, unless a Struct among the union's members brings its own (`tag_field`)."""

_MARK: Final = "__perdure_tag__"

T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True)
class Tag:
    """Gives a class the tag that is stored for it in unions; without it, that is the class's name.

    As a decorator, `@Tag("placed")` above a class, it holds wherever the class is used; in an annotation,
    `Annotated[Placed, Tag("placed")] | Paid`, it holds there. With a tag of its own a class can be renamed, while what
    is stored under the old name can still be read.

    Attributes:
        value: The tag.
    """

    value: str

    def __post_init__(self) -> None:
        """Refuse what is no tag.

        Raises:
            DefinitionError: It isn't a text, or an empty one.
        """
        if type(self.value) is not str or not self.value:
            message = f"Tag({self.value!r}): a tag is a text that isn't empty"
            raise DefinitionError(message)

    def __call__(self, cls: T) -> T:
        """Give the class its tag; classes derived from it don't inherit it."""
        setattr(cls, _MARK, self.value)
        return cls


def tag_of(cls: Any) -> str | None:
    """Return the tag that a class was given itself."""
    found: str | None = cls.__dict__.get(_MARK)
    return found
