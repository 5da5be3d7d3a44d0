"""Other people's text can't command a terminal."""

from __future__ import annotations

import json

import pytest

from perdure.cli.text import json_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Rīga, Łódź, 東京, العربية, 👩‍👧", "Rīga, Łódź, 東京, العربية, 👩‍👧"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("half \ud83d of a pair", r"half \ud83d of a pair"),
        ("[bold]no markup[/bold] :smile:", "[bold]no markup[/bold] :smile:"),
    ],
)
def test_what_does_not_print_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_are_kept_when_asked_for() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_means_the_same_and_holds_no_control(indent: int | None) -> None:
    value = {"a\x9b": ["\x1b[2J", "\u202e", "Rīga 東京", "\n", "\ud83d", 2**80, 1.5, None, True]}
    text = json_text(value, indent=indent)
    assert json.loads(text) == value
    assert not set(text) & {"\x1b", "\x9b", "\u202e", "\ud83d"}
    assert "Rīga 東京" in text
