"""A disk of few megabytes under a server: a file system in memory, mounted where its data (or its WAL) is."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.cluster import Cluster

__all__ = ["SmallDisk"]

_CHUNK = b"\0" * 65536


class SmallDisk:
    """Puts a part of a server's files on a disk of its own, as long as the block lasts; stops the server at its end.

    Skips the test where mounting isn't allowed.
    """

    def __init__(self, cluster: Cluster, *, megabytes: int, wal: bool = False) -> None:
        """Prepare; `wal`: the WAL's disk is the small one, and not that of all the rest."""
        self._cluster = cluster
        self._megabytes = megabytes
        self._wal = wal
        self._place = cluster.data / "pg_wal" if wal else cluster.data
        self._filler = self._place / "filler"

    def fill(self) -> None:
        """Use up all that is left."""
        with self._filler.open("ab", buffering=0) as file:
            for chunk in (_CHUNK, b"\0" * 512):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(chunk)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), self._filler.open("ab", buffering=0) as file:
            file.write(_CHUNK)

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def __enter__(self) -> Self:
        cluster, place = self._cluster, self._place
        cluster.stop()
        before = cluster.folder / "before"
        place.rename(before)
        place.mkdir(mode=0o700)
        options = f"size={self._megabytes}m,mode=700"
        mounted = subprocess.run(
            ["/bin/mount", "-t", "tmpfs", "-o", options, "perdure-tests", place],
            check=False,
            capture_output=True,
            text=True,
        )
        if mounted.returncode != 0:
            place.rmdir()
            before.rename(place)
            pytest.skip(f"a file system can't be mounted here, which takes root's rights: {mounted.stderr.strip()}")
        if not self._wal:
            # The WAL stays on the large disk: that it is full is another thing, of which PostgreSQL dies.
            (before / "pg_wal").rename(cluster.folder / "wal")
            (before / "pg_wal").symlink_to(cluster.folder / "wal")
        subprocess.run(["/bin/cp", "-a", f"{before}/.", place], check=True)
        shutil.rmtree(before)
        cluster.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._cluster.is_running:
            self._cluster.stop("immediate")
        subprocess.run(["/bin/umount", "--lazy", self._place], check=True)
