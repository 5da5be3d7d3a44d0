"""Runs the examples of a Markdown page, top to bottom, as a reader would: one folder, one database, one Python session.

What is done with a fenced block goes by its language, and by a comment on the line before it, which readers don't see:

| block | is |
|---|---|
| `python` | run, in one namespace per page; `await` may stand outside functions, as in `python -m asyncio` |
| `sh` | run with `bash -euo pipefail` |
| `console` | each line after `$ ` is run, and must print the lines that follow it; `…` stands for anything |
| any other | not looked at |

| comment | says of the next block |
|---|---|
| `<!-- example: file=orders.py -->` | write it into the folder, whatever its language; it isn't run by itself |
| `<!-- example: background=ready -->` | (`sh`) start this command, wait until it prints the word; SIGTERM ends it |
| `<!-- example: prints -->` | (`text` and the like) this is what the block before it printed; `…` stands for anything |
| `<!-- example: skip: why -->` | don't run it, for this reason |
| `<!-- example: hidden` … `-->` | Python to be run that readers don't see: what an example takes for granted |
| `<!-- examples: database=none -->` | of the whole page: no PERDURE_DSN, so perdure brings its own PostgreSQL |

The database is fresh and empty, and PERDURE_DSN names it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.processes import Process, Processes

__all__ = ["BadExample", "Block", "Page", "read_page"]

_RUNNABLE = ("python", "sh", "console")
_COMMENT = re.compile(r"\s*<!-- example: (?P<verb>[a-z]+)(?P<rest>.*?)(?P<closed>-->)?\s*$")
_PAGE_COMMENT = re.compile(r"\s*<!-- examples: (?P<key>\w+)=(?P<value>\w+) -->\s*$")
_FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>`{3,}|~{3,})(?P<language>\w*).*$")
_COMMAND_SECONDS = 60.0


class BadExample(Exception):
    """A page's example doesn't do what the page says, or its comment can't be understood; tells the line."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}")


@dataclass(frozen=True)
class Block:
    """A fenced block, or hidden Python.

    Attributes:
        language: As written after the fence.
        text: Without the fence and its indentation.
        line: Where the text begins in the page, counted from 1.
        verb: What the comment before it says: run (when there is none), file, background, prints or skip.
        argument: The file's name, the word to wait for, the reason.
    """

    language: str
    text: str
    line: int
    verb: str = "run"
    argument: str = ""

    @property
    def is_run(self) -> bool:
        """Whether anything is to be done for it."""
        return self.verb in {"file", "background", "prints"} or (self.verb == "run" and self.language in _RUNNABLE)


@dataclass
class Page:
    """A page's blocks, and how to run them.

    Attributes:
        path: The page.
        blocks: In the page's order.
        database: `empty`, or `none` for perdure's own.
    """

    path: Path
    blocks: list[Block]
    database: str = "empty"
    _output: str = field(default="", init=False)

    @property
    def has_examples(self) -> bool:
        """Whether there is anything to run."""
        return any(block.is_run for block in self.blocks)

    async def run(self, folder: Path, environment: Mapping[str, str], processes: Processes) -> None:
        """Run the blocks.

        Args:
            folder: The present folder, in which the page's files are written. Python runs in it too: `os.chdir` there.
            environment: What commands see on top of this process's environment.
            processes: Starts them.

        Raises:
            BadExample: One doesn't do what the page says.
        """
        module = types.ModuleType("examples_of_the_page")
        sys.modules[module.__name__] = module  # where annotations are looked up
        background: list[tuple[Block, Process]] = []
        try:
            for block in self.blocks:
                if block.verb == "file":
                    target = folder / block.argument
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(block.text, encoding="utf-8")
                elif block.verb == "background":
                    process = processes.start(*_bash(f"exec {block.text}"), env=environment, cwd=folder)
                    background.append((block, process))
                    await process.line(re.escape(block.argument))
                elif block.verb == "prints":
                    self._compare(block, block.text, self._output)
                elif block.is_run and block.language == "python":
                    await self._run_python(block, module)
                elif block.is_run:
                    await asyncio.to_thread(self._run_shell, block, folder, environment)
            for block, process in background:
                process.send(signal.SIGTERM)
                if code := await process.end():
                    raise self._bad(block, f"ended with exit code {code} on SIGTERM; it said:\n{process.output}")
        finally:
            del sys.modules[module.__name__]

    async def _run_python(self, block: Block, module: types.ModuleType) -> None:
        # Blank lines in front, so that a traceback shows the page's own lines.
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(self.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if code.co_flags & inspect.CO_COROUTINE:  # it awaits
                    await types.FunctionType(code, module.__dict__)()
                else:
                    # In a thread, as a program without an event loop: perdure.blocking refuses to block a loop.
                    await asyncio.to_thread(exec, code, module.__dict__)
        except Exception as error:
            raise self._bad(block, f"raised {type(error).__name__}: {error}") from error
        finally:
            self._output = printed.getvalue()

    def _run_shell(self, block: Block, folder: Path, environment: Mapping[str, str]) -> None:
        if block.language == "sh":
            self._output = self._command(block, block.text, folder, environment)
            return
        for command, expected in _console(block.text):
            printed = self._command(block, command, folder, environment)
            self._compare(block, expected, printed, f"`{command}`")

    def _command(self, block: Block, text: str, folder: Path, environment: Mapping[str, str]) -> str:
        try:
            done = subprocess.run(
                _bash(text),
                check=False,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise self._bad(block, f"didn't end within {_COMMAND_SECONDS} s: {text}\n{error.output!r}") from error
        if done.returncode:
            raise self._bad(block, f"ended with exit code {done.returncode}: {text}\n{done.stdout}")
        return done.stdout

    def _compare(self, block: Block, expected: str, printed: str, who: str = "the block before") -> None:
        wanted = ".*".join(re.escape(part) for part in _trimmed(expected).split("…"))
        if not re.fullmatch(wanted, _trimmed(printed), re.DOTALL):
            raise self._bad(block, f"{who} printed\n{_trimmed(printed)}\n--- and not\n{_trimmed(expected)}")

    def _bad(self, block: Block, what: str) -> BadExample:
        return BadExample(self.path, block.line, f"the {block.language} example {what}")


def read_page(path: Path) -> Page:
    """Read a page's blocks.

    Raises:
        BadExample: A comment can't be understood, or a block isn't closed.
    """
    page = Page(path, [])
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    comment: tuple[str, str] | None = None
    for number, line in lines:
        if found := _PAGE_COMMENT.match(line):
            if found["key"] != "database" or found["value"] not in {"empty", "none"}:
                raise BadExample(path, number, f"`{line.strip()}`: known is database=empty or database=none")
            page.database = found["value"]
        elif found := _COMMENT.match(line):
            if found["verb"] == "hidden":
                page.blocks.append(Block("python", _until(lines, "-->", path, number), number + 1))
            else:
                comment = _meaning(found, path, number)
        elif found := _FENCE.match(line):
            text = _until(lines, found["fence"], path, number)
            verb, argument = comment or ("run", "")
            page.blocks.append(Block(found["language"], text, number + 1, verb, argument))
            comment = None
        elif comment and line.strip():
            raise BadExample(path, number, f"the line after `<!-- example: {comment[0]}… -->` isn't a block")
    return page


def _meaning(found: re.Match[str], path: Path, number: int) -> tuple[str, str]:
    verb, rest = found["verb"], found["rest"].strip()
    well_formed = {
        "file": rest.startswith("=") and len(rest) > 1,
        "background": rest.startswith("=") and len(rest) > 1,
        "prints": not rest,
        "skip": rest.startswith(":") and len(rest) > 1,
    }
    if not found["closed"] or not well_formed.get(verb, False):
        raise BadExample(path, number, f"`{found[0].strip()}` isn't one of the comments in {__name__}")
    return verb, rest[1:].strip()


def _until(lines: Iterator[tuple[int, str]], end: str, path: Path, start: int) -> str:
    collected: list[str] = []
    for _number, line in lines:
        if line.strip() == end:
            return textwrap.dedent("\n".join(collected)) + "\n"
        collected.append(line)
    raise BadExample(path, start, "what begins here has no end")


def _console(text: str) -> Iterator[tuple[str, str]]:
    """Split a session into commands and what they print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def _bash(text: str) -> tuple[str, ...]:
    return ("bash", "-euo", "pipefail", "-c", text)


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
