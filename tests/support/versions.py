"""The next minor version of perdure, made for tests: this one, under another number and with one migration more."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import perdure

__all__ = ["NEXT_VERSION", "make_next_version"]

NEXT_VERSION = "0.999.0"
_MIGRATION = """-- What a minor version may do: add, and take nothing away.
-- major: 1
alter table {schema}.jobs add column future text, add column old int not null default 7;
alter table {schema}.finished_jobs add column future text, add column old int not null default 7;
alter table {schema}.workers add column future text;
alter table {schema}.events add column future text;
alter table {schema}.steps add column future text;
alter table {schema}.attempts add column future text;
create table {schema}.later (job_id bigint primary key, future text);
create index jobs_future on {schema}.jobs (future) where future is not null;
"""


def make_next_version(folder: Path) -> Path:
    """Make it in the folder, and return what has to be first in `PYTHONPATH` for a process to use it."""
    package = folder / "next" / "perdure"
    shutil.copytree(Path(perdure.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    version = package / "version.py"
    version.write_text(re.sub(r'"[\d.]+"', f'"{NEXT_VERSION}"', version.read_text("utf-8")), encoding="utf-8")
    migrations = package / "store" / "migrations"
    number = max(int(path.name[:3]) for path in migrations.glob("[0-9]*.sql")) + 1
    (migrations / f"{number:03}_next.sql").write_text(_MIGRATION, encoding="utf-8")
    return package.parent
