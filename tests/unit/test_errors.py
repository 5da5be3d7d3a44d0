"""The tree of errors as it is drawn, and that each can be caught as what it stands below."""

from __future__ import annotations

import inspect
import re

from perdure import errors


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    (?P<bars>[│├└─ ]*)(?P<name>[A-Z]\w+)(\s|$)", line):
            depth = len(match["bars"]) // 4
            above[depth:] = [match["name"]]
            drawn[match["name"]] = above[depth - 1] if depth else "Exception"
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    assert drawn == {name: value.__bases__[0].__name__ for name, value in classes.items()}
    assert set(drawn) == set(errors.__all__)


def test_errors_that_python_has_a_word_for_are_caught_by_it_too() -> None:
    assert issubclass(errors.JobTimeout, TimeoutError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DefinitionError, TypeError)
