"""The runner of the documents' examples finds those that don't do what their page says."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.examples import BadExample, read_page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes


def _serve(code: int) -> str:
    """A command that is up until SIGTERM, and then ends with the code."""
    program = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit({code})); print('ready'); signal.pause()"
    return f'{sys.executable} -c "{program}"'


async def _run(text: str, folder: Path, processes: Processes) -> None:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    await read_page(path).run(folder, os.environ, processes)


async def test_a_page_is_one_session_with_files_commands_and_background(tmp_path: Path, processes: Processes) -> None:
    text = """
# Page

<!-- example: hidden
import asyncio
-->
<!-- example: file=data/names.txt -->
```text
ann
```

<!-- example: background=ready -->
```sh
SERVE
```

1. In a list:

   ```python
   await asyncio.sleep(0)
   name = "ann"
   ```

```python
class Named:
    name: str

print("I am", name)
```

<!-- example: prints -->
```text
I … ann
```

```sh
test "$(cat data/names.txt)" = ann
```

```console
$ echo one; echo two
one
two
$ echo three
th…e
```

<!-- example: skip: it needs a shop -->
```python
raise SystemExit
```

```toml
what = "ever"
```
"""
    await _run(text.replace("SERVE", _serve(0)), tmp_path, processes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n```python\n1\n1 / 0\n```\n", r"page\.md:3: the python example raised ZeroDivisionError"),
        ("```sh\nfalse\ntrue\n```\n", r"page\.md:2: the sh example ended with exit code 1"),
        ("```console\n$ echo no\nyes\n```\n", r"`echo no` printed\nno\n--- and not\nyes"),
        ("```python\nprint(1)\n```\n<!-- example: prints -->\n```text\n2\n```\n", r"page\.md:6: .* printed\n1\n"),
        ("<!-- example: run -->\n```python\n1\n```\n", r"page\.md:1: `<!-- example: run -->` isn't one of"),
        ("<!-- example: skip -->\n```python\n1\n```\n", r"page\.md:1: `<!-- example: skip -->` isn't one of"),
        ("<!-- example: skip: x -->\ntext\n```python\n1\n```\n", r"page\.md:2: the line after .* isn't a block"),
        ("<!-- examples: database=big -->\n", r"page\.md:1: .* known is database=empty or database=none"),
        ("```python\n1\n", r"page\.md:1: what begins here has no end"),
        (
            "<!-- example: background=ready -->\n```sh\n" + _serve(3) + "\n```\n",
            r"page\.md:3: the sh example ended with exit code 3 on SIGTERM",
        ),
    ],
)
async def test_an_example_that_is_wrong_is_told_with_its_line(
    text: str, complaint: str, tmp_path: Path, processes: Processes
) -> None:
    with pytest.raises(BadExample, match=complaint):
        await _run(text, tmp_path, processes)
