"""`MODULE:APP` is imported from the current folder; whatever is wrong with it is said in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine, Ended


def _failed(ended: Ended, code: int) -> str:
    assert ended.code == code, ended
    assert ended.out == ""
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err.removeprefix("Error: ").rstrip("\n")


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_an_app_of_the_current_folder_is_found(perdure: CommandLine) -> None:
    assert "create table" in perdure("migrate", "--sql", "shop:app").out


def test_an_app_in_a_package_and_in_an_attribute_of_something_is_found(perdure: CommandLine, folder: Path) -> None:
    _write(folder, "pack/__init__.py", "")
    _write(folder, "pack/shop.py", "import types, perdure\nc = types.SimpleNamespace(app=perdure.App())\n")
    assert perdure.inside("migrate", "--sql", "pack.shop:c.app").code == 0


def test_the_current_folder_comes_before_what_is_installed(perdure: CommandLine, folder: Path) -> None:
    _write(folder, "rich_shop.py", "from shop import app")
    assert perdure.inside("migrate", "--sql", "rich_shop:app").code == 0


def test_a_missing_module_is_named(perdure: CommandLine, folder: Path) -> None:
    line = _failed(perdure("migrate", "--sql", "shpo:app"), 2)
    assert line == f"there is no module 'shpo', neither in {folder} nor installed; did you mean 'shop'?"


def test_a_module_missing_in_a_package_is_named(perdure: CommandLine, folder: Path) -> None:
    _write(folder, "pack/__init__.py", "")
    assert "there is no module 'pack.shop'" in _failed(perdure.inside("migrate", "--sql", "pack.shop:app"), 2)
    assert "there is no module 'shop.app'" in _failed(perdure.inside("migrate", "--sql", "shop.app:app"), 2)


def test_a_missing_attribute_is_named_with_what_is_there(perdure: CommandLine) -> None:
    assert (
        _failed(perdure.inside("migrate", "--sql", "shop:ap"), 2) == "module 'shop' has no 'ap'; did you mean shop:app?"
    )


def test_a_module_without_an_app_says_so(perdure: CommandLine, folder: Path) -> None:
    _write(folder, "empty.py", "")
    line = _failed(perdure.inside("migrate", "--sql", "empty:app"), 2)
    assert line == "module 'empty' has no 'app'; it has no App at all: app = perdure.App(…)"


def test_what_is_no_app_is_named_by_its_type(perdure: CommandLine) -> None:
    line = _failed(perdure.inside("migrate", "--sql", "shop:import_orders"), 2)
    assert line == "shop:import_orders is no perdure.App, but of type perdure.task.Task; did you mean shop:app?"


@pytest.mark.parametrize(
    ("target", "meant"),
    [("shop", "shop:app"), ("shop.py", "shop:app"), ("./pack/shop.py:app", "pack.shop:app"), ("shop:", "shop:app")],
)
def test_another_form_is_answered_with_what_was_probably_meant(perdure: CommandLine, target: str, meant: str) -> None:
    assert (
        _failed(perdure.inside("migrate", "--sql", target), 2) == f"{target!r} is not MODULE:APP; did you mean {meant}?"
    )


def test_a_form_that_means_nothing_is_answered_with_an_example(perdure: CommandLine) -> None:
    assert "write it as shop:app, for `app = App(…)` in shop.py" in _failed(
        perdure.inside("migrate", "--sql", "a b:c"), 2
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nraise ValueError('no\\n\\x1b[31mshop')", r"ValueError: no \x1b[31mshop (bad.py, line 2)"),
        ("import nowhere.at_all", "ModuleNotFoundError: No module named 'nowhere' (bad.py, line 1)"),
        ("from shop import nothing", "ImportError: cannot import name 'nothing' from 'shop'"),
        ("def f(:\n", "SyntaxError: invalid syntax (bad.py, line 1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (bad.py, line 2)"),
        ("import json\n\njson.loads('{')", "(bad.py, line 3)"),
        (
            "from perdure import App\napp = App()\n\n@app.task('t')\ndef f(ctx: int) -> None: ...",
            "failed: task 't'",
        ),
    ],
)
def test_a_module_that_raises_is_named_with_what_and_where(
    perdure: CommandLine, folder: Path, code: str, said: str
) -> None:
    _write(folder, "bad.py", code)
    line = _failed(perdure.inside("migrate", "--sql", "bad:app"), 1)
    assert line.startswith("importing 'bad' failed: ")
    assert said in line


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(perdure: CommandLine, folder: Path, place: str) -> None:
    _write(folder, "bad.py", "raise ValueError('no shop')")
    command = ["migrate", "--sql", "bad:app"]
    ended = perdure("--debug", *command) if place == "before" else perdure(*command, "--debug")
    assert ended.code == 1
    assert "Traceback (most recent call last):" in ended.err
    assert 'bad.py", line 1, in <module>' in ended.err
    assert ended.err.endswith("Error: importing 'bad' failed: ValueError: no shop (bad.py, line 1)\n")


def test_what_a_module_prints_when_imported_is_kept_out_of_the_output(perdure: CommandLine, folder: Path) -> None:
    _write(folder, "loud.py", "from shop import app\nprint('hello')")
    ended = perdure("migrate", "--sql", "loud:app")
    assert "hello" not in ended.out
    assert "hello" in ended.err


def test_an_app_and_a_dsn_contradict_each_other(perdure: CommandLine) -> None:
    line = _failed(perdure.inside("migrate", "--sql", "shop:app", "--dsn", "postgresql://x@y/z"), 2)
    assert line == "--dsn and shop:app: give one of them, since an app knows its database"
