"""The source runs nothing that was stored, puts no value into SQL, and needs just what is pinned."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_SOURCES = sorted((_ROOT / "src" / "perdure").rglob("*.py"))
_PROJECT: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))

# --- what runs ---

_FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "yaml", "code", "codeop", "commands",
    "pty", "telnetlib", "ftplib", "xmlrpc", "urllib.request", "http.client", "requests", "httpx", "aiohttp",
}  # fmt: skip
# The supervisor of several worker processes asks each how it is, on the loopback.
_MAY_ASK = {"cli/together.py": {"http.client", "http"}}
_FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"}
# Which code is imported is said by whoever runs the command, or is perdure's own; never by what is stored.
_MAY_IMPORT = {"cli/target.py", "cli/groups.py", "embedded/binaries.py", "embedded/account.py", "__init__.py"}
# Settings of a session, by the code's own names; and the statement that they are appended to.
_MAY_STAND_HERE = {
    "store/sessions.py": {"name", "value", "b'begin isolation level read committed; ' + self._settings"},
    "store/transactions.py": {
        "b'begin; set local idle_in_transaction_session_timeout = %d' % time_out_milliseconds(idle_seconds)"
    },
    "verbs/basis.py": {"b'set transaction isolation level read committed' + (b', read only' if read_only else b'')"},
}


@functools.cache
def _trees() -> list[tuple[str, ast.Module]]:
    folder = _ROOT / "src" / "perdure"
    return [(path.relative_to(folder).as_posix(), ast.parse(path.read_text("utf-8"))) for path in _SOURCES]


def _calls() -> Iterator[tuple[str, ast.Call, str]]:
    for name, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield name, node, ast.unparse(node.func)


def test_no_module_that_runs_or_revives_what_it_reads_is_imported() -> None:
    for name, tree in _trees():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for module in set(names) - _MAY_ASK.get(name, set()):
                assert module not in _FORBIDDEN_MODULES, f"{name}: import {module}"
                assert module.partition(".")[0] not in _FORBIDDEN_MODULES, f"{name}: import {module}"


def test_nothing_is_evaluated_and_nothing_given_to_a_shell() -> None:
    for name, call, function in _calls():
        assert function not in _FORBIDDEN_CALLS, f"{name}:{call.lineno}: {function}"
        assert not function.startswith(("os.exec", "os.spawn", "os.posix_spawn")), f"{name}:{call.lineno}: {function}"
        for keyword in call.keywords:
            assert keyword.arg != "shell", f"{name}:{call.lineno}: shell="
        if function.startswith("subprocess.") or function.endswith("create_subprocess_exec"):
            command = call.args[0]
            assert not isinstance(command, ast.Constant | ast.JoinedStr), f"{name}:{call.lineno}: a command in one text"
        if function.endswith("import_module"):
            assert name in _MAY_IMPORT, f"{name}:{call.lineno}: {function}"


# --- what is in a statement ---

_VERBS = "select|insert into|update|delete from|set |listen|begin|commit|create|alter|drop|grant|revoke|with"
_SQL = re.compile(rf"\s*({_VERBS})\b")
# The values that are formatted into a statement: quoted names, numbers that are ints, and constants of the code.
_MAY_STAND = re.compile(
    r"quote_identifier\(.+\)|quote_literal\(.+\)|max\(1, int\(.+\)\)|migration\.(number|major)|schema|sequence|values"
    r"|_LOCK_TIMEOUT|step|own",
    re.DOTALL,
)


def _speaks_sql(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.Import) and any(alias.name.startswith("psycopg") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("psycopg", "perdure.store")))
        for node in ast.walk(tree)
    )


def _is_sql(node: ast.expr) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes):
        return False
    text = node.value if isinstance(node.value, str) else node.value.decode()
    return _SQL.match(text) is not None


def _formatted(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what is put into statements: the expressions of f-strings; by other means the whole expression."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[first, *rest]) if _is_sql(first):
                yield from ((node.lineno, ast.unparse(x.value)) for x in rest if isinstance(x, ast.FormattedValue))
            case ast.BinOp(left=left, op=ast.Mod() | ast.Add()) if _is_sql(left):
                yield node.lineno, ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=value, attr="format" | "join")) if _is_sql(value):
                yield node.lineno, ast.unparse(node)
            case _:
                pass


def test_no_value_is_formatted_into_a_statement() -> None:
    found = [(name, *one) for name, tree in _trees() if _speaks_sql(tree) for one in _formatted(tree)]
    assert len(found) > 5
    for name, line, what in found:
        is_known = _MAY_STAND.fullmatch(what) or what in _MAY_STAND_HERE.get(name, ())
        assert is_known, f"{name}:{line}: {what} in a statement"


def test_that_test_sees_a_value_in_a_statement() -> None:
    slips = ("f'select {x}'", "'delete from t where id = %s' % x", "b'update t set ' + x", "'insert into {}'.format(x)")
    for slip in slips:
        assert [what for _line, what in _formatted(ast.parse(slip)) if not _MAY_STAND.fullmatch(what)], slip


def test_no_file_of_sql_has_a_place_for_more_than_names() -> None:
    # {…} is filled in as text, %(…)s is a parameter.
    places = {"schema", "schema_text", "job_ids", "job_columns", "live_columns", "claim_columns", "asked_at"}
    roles = {kind + end for kind in ("owner", "worker", "starter", "viewer", "schema") for end in ("", "_text")}
    for path in sorted((_ROOT / "src" / "perdure" / "store").rglob("*.sql")):
        text = "\n".join(line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("--"))
        found = set(re.findall(r"\{(\w+)\}", text))
        assert found <= (places | roles if path.name == "roles.sql" else places), path.name
        if "format(" in text:  # SQL that is made on the server
            assert path.parent.name == "migrations", path.name


# --- what is needed ---


def _pins() -> dict[str, str]:
    lines = (_ROOT / "requirements-dev.txt").read_text("utf-8").splitlines()
    pins: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line)
            assert found is not None, f"requirements-dev.txt: {line} is no exact pin"
            pins[canonicalize_name(found[1])] = found[2]
    return pins


def _wanted() -> list[Requirement]:
    project = _PROJECT["project"]
    extras, groups = project["optional-dependencies"], _PROJECT["dependency-groups"]
    lists = [project["dependencies"], *extras.values(), *groups.values(), _PROJECT["build-system"]["requires"]]
    return [Requirement(text) for texts in lists for text in texts]


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = _pins()
    for requirement in _wanted():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} isn't pinned"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement}: {pins[name]} is pinned"


def test_whatever_a_pinned_package_needs_is_pinned_and_fits() -> None:
    pins, looked_at = _pins(), 0
    for name in pins:
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                looked_at += 1
                found = pins.get(canonicalize_name(requirement.name))
                assert found is not None, f"{name} needs {requirement}, which isn't pinned"
                assert requirement.specifier.contains(found, prereleases=True), (
                    f"{name} needs {requirement}; {found} is"
                )
    assert looked_at > 20


def test_what_runs_here_is_what_is_pinned() -> None:
    pins = _pins()
    for name in ("psycopg", "psycopg-pool", "msgspec", "click", "rich"):
        assert metadata.version(name) == pins[canonicalize_name(name)], f"{name}: `make` renews the environment"


def test_few_packages_are_needed_to_run() -> None:
    needed = {canonicalize_name(Requirement(text).name) for text in _PROJECT["project"]["dependencies"]}
    assert needed == {"click", "msgspec", "psycopg", "psycopg-pool", "rich"}
    for text in _PROJECT["project"]["dependencies"]:
        assert Requirement(text).specifier != SpecifierSet(), text


def test_the_rules_of_bandit_are_on() -> None:
    lint = _PROJECT["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    here = [rule for path, rules in lint["per-file-ignores"].items() if path.startswith("src") for rule in rules]
    assert not [rule for rule in (*lint["ignore"], *here) if rule.startswith("S")]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in _SOURCES])
def test_each_exception_from_the_rules_of_bandit_says_why(path: Path) -> None:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if re.search(r"# noqa: .*\bS\d{3}", line):
            assert re.search(r"# noqa: [A-Z0-9, ]+ - \w+", line), f"{path.name}:{number}: {line.strip()}"
