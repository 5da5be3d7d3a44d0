"""`MODULE:APP`: imports the module from the current folder and returns its app, or says in a line why it can't.

Imports nothing else, and opens nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.app import App
from perdure.cli.errors import Failure, Misunderstood
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load_app"]


def load_app(target: str) -> App:
    """Import the app that the target names.

    Args:
        target: Module and name, `"shop:app"`; both may have dots.

    Raises:
        Misunderstood: It isn't of this form, or there is no such module, or no app of this name in it.
        Failure: The module is there and raised when it was imported.
    """
    module_name, colon, name = target.partition(":")
    if not (colon and _is_dotted(module_name) and _is_dotted(name)):
        message = f"{target!r} is not MODULE:APP{_meant(module_name, name)}"
        raise Misunderstood(message)
    return _find(_import(module_name), module_name, name)


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        # What a module prints while it is imported must not get into --output json.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _raised(name, error) from error
        message = f"there is no module {error.name!r}, neither in {here} nor installed{_near_module(name)}"
        raise Misunderstood(message) from error
    except (Exception, SystemExit) as error:
        raise _raised(name, error) from error


def _find(module: ModuleType, module_name: str, name: str) -> App:
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            message = f"module {module_name!r} has no {name!r}{_apps_of(module, module_name, name)}"
            raise Misunderstood(message) from error
    if not isinstance(found, App):
        kind = type(found)
        message = (
            f"{module_name}:{name} is no perdure.App, but of type {kind.__module__}.{kind.__qualname__}"
            f"{_apps_of(module, module_name, name)}"
        )
        raise Misunderstood(message)
    return found


def _raised(name: str, error: BaseException) -> Failure:
    what = str(error) if isinstance(error, PerdureError) else _described(error)
    place = _place(error)
    return Failure(f"importing {name!r} failed: {what}" + (f" ({place})" if place else ""))


def _described(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _place(error: BaseException) -> str:
    """Where it was raised: the deepest line in the current folder, which is its reader's own code; else the deepest."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    ours = [frame for frame in frames if _is_here(frame.filename)]
    deepest = (ours or frames[2:])[-1:]  # the first two are importlib and this module
    return "".join(f"{_short(frame.filename)}, line {frame.lineno}" for frame in deepest)


def _is_here(file: str) -> bool:
    path, here = Path(file), Path.cwd()
    return path.is_relative_to(here) and "site-packages" not in path.parts


def _short(file: str) -> str:
    return str(Path(file).relative_to(Path.cwd())) if _is_here(file) else file


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _meant(module: str, name: str) -> str:
    """What somebody probably meant who wrote a path, or left out the name."""
    guess = module.removesuffix(".py").strip("./").replace("/", ".")
    if not _is_dotted(guess):
        return "; write it as shop:app, for `app = App(…)` in shop.py"
    return f"; did you mean {guess}:{name if _is_dotted(name) else 'app'}?"


def _near_module(name: str) -> str:
    here = [path.stem for path in Path.cwd().glob("*.py")] + [
        path.parent.name for path in Path.cwd().glob("*/__init__.py")
    ]
    near = get_close_matches(name, here, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _apps_of(module: ModuleType, module_name: str, name: str) -> str:
    apps = [key for key, value in vars(module).items() if isinstance(value, App)]
    if not apps:
        return "; it has no App at all: app = perdure.App(…)"
    near = get_close_matches(name, apps, n=1) or apps[:1]
    return f"; did you mean {module_name}:{near[0]}?"
