"""Another host, as a network namespace that one link leads to; for root on Linux, where that is allowed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Host", "another_host"]


_PROGRAM = shutil.which("ip") or "ip"


class Host:
    """A host with one link to this machine.

    Attributes:
        address_here: This machine's, as the other host sees it.
        prefix: What a command begins with that is to run there.
    """

    def __init__(self, number: int) -> None:
        self._name = f"perdure{number}"
        self._link = f"prd{number}"
        self._subnet = f"10.213.{number % 250}"
        self.address_here = f"{self._subnet}.1"
        self.prefix = ("ip", "netns", "exec", self._name)

    def build(self) -> None:
        """Make it.

        Raises:
            subprocess.CalledProcessError: It isn't allowed here.
        """
        there = f"{self._link}b"
        _ip("netns", "add", self._name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", there, "netns", self._name)
        _ip("address", "add", f"{self.address_here}/24", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self._name, "address", "add", f"{self._subnet}.2/24", "dev", there)
        _ip("-n", self._name, "link", "set", there, "up")
        subprocess.run([*self.prefix, "true"], check=True, capture_output=True)

    def part(self) -> None:
        """Let all packets vanish, both ways."""
        _ip("link", "set", self._link, "down")

    def heal(self) -> None:
        """Let them through again."""
        _ip("link", "set", self._link, "up")

    def remove(self) -> None:
        """Take it away, as far as it was made."""
        for command in (("link", "delete", self._link), ("netns", "delete", self._name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*command)


@contextlib.contextmanager
def another_host() -> Iterator[Host]:
    """Make another host; skips the test where that isn't possible."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("other hosts are network namespaces: these need root and the command ip (Debian: iproute2)")
    host = Host(os.getpid() % 100_000)
    try:
        try:
            host.build()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces aren't allowed here: {error.stderr.decode().strip()}")
        yield host
    finally:
        host.remove()


def _ip(*arguments: str) -> None:
    subprocess.run([_PROGRAM, *arguments], check=True, capture_output=True)
