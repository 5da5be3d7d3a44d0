"""Hosts' addresses for the connections that a worker can't do without, looked up in a thread of their own.

psycopg asks the event loop, and asyncio's asks in a thread of its default executor: handlers may hold all of these
(`asyncio.to_thread`), so that a worker which keeps its lease couldn't connect again for as long.
"""

from __future__ import annotations

import ipaddress
import os
import socket

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.own_thread import in_own_thread

__all__ = ["resolved"]

_PORT = "5432"


async def resolved(dsn: str) -> str:
    """Return the dsn with an address for each host, or several; as it is, if it names none, or none is found.

    It says then, when it is used, what is wrong with it.
    """
    parameters = conninfo_to_dict(dsn)
    hosts = _listed(parameters.get("host"), "PGHOST")
    ports = _listed(parameters.get("port"), "PGPORT") or [_PORT]
    if len(ports) == 1:
        ports *= len(hosts)
    is_told = _listed(parameters.get("hostaddr"), "PGHOSTADDR") or not any(map(_is_name, hosts))
    if is_told or any(map(_is_path, hosts)) or len(ports) != len(hosts):
        return dsn
    found = await in_own_thread(lambda: _look_up(hosts, ports), "perdure resolver")
    if not found:
        return dsn
    names, addresses, of_ports = (",".join(column) for column in zip(*found, strict=True))
    return make_conninfo(dsn, host=names, hostaddr=addresses, port=of_ports)


def _listed(value: str | int | None, variable: str) -> list[str]:
    text = str(value or os.environ.get(variable, ""))
    return [part.strip() for part in text.split(",")] if text else []


def _is_path(host: str) -> bool:
    return not host or host.startswith(("/", "@"))


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _look_up(hosts: list[str], ports: list[str]) -> list[tuple[str, str, str]]:
    """Return each host's addresses, each with the host and the port; without those hosts that have none."""
    found: list[tuple[str, str, str]] = []
    for host, port in zip(hosts, ports, strict=True):
        try:
            answers = socket.getaddrinfo(host, port or _PORT, proto=socket.IPPROTO_TCP, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        found += [(host, str(answer[4][0]), port or _PORT) for answer in answers]
    return found
