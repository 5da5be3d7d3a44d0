"""Connection strings: checked before anything connects, and never shown with a password in them.

Doesn't connect. What libpq says of a string that it can't read may quote the password: its words are never passed on.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

__all__ = ["NOT_SHOWN", "Dsn", "hide_passwords", "read_dsn"]

MASK = "***"
NOT_SHOWN = "(not shown, since it may hold a password)"
_SECRETS = ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")
_KEYWORD = "|".join(_SECRETS)

# Greedy up to the last "@": a password may hold one that its author forgot to write as %40.
_IN_AUTHORITY = re.compile(r"(://[^:]*?:).*@", re.DOTALL)
_IN_QUERY = re.compile(rf"([?&](?:{_KEYWORD})=)[^&\s]*", re.IGNORECASE)
_IN_PAIRS = re.compile(
    rf"(?<![?&])((?:{_KEYWORD})\s*=\s*)(?!\*\*\*(?:[\s&]|$))('(?:[^'\\]|\\.)*(?:'|$)|(?:[^\s\\]|\\.)+)",
    re.IGNORECASE | re.DOTALL,
)
_UNKNOWN_OPTION = re.compile(r'invalid (?:connection option|URI query parameter):? "(\w+)"')
_URL_SCHEME = re.compile(r"postgres(?:ql)?://")


class Dsn(str):
    """A connection string: a `str` to whoever connects, masked in every `repr`, and so in logs and tracebacks."""

    __slots__ = ()

    @property
    def masked(self) -> str:
        """The string to show to people. Hidden altogether when a password would still be in it."""
        shown = hide_passwords(self)
        try:
            parts = conninfo_to_dict(shown)
        except psycopg.Error:
            return NOT_SHOWN
        return shown if all(parts.get(secret, MASK) == MASK for secret in _SECRETS) else NOT_SHOWN

    def __repr__(self) -> str:
        return repr(self.masked)


def hide_passwords(text: str) -> str:
    """Mask what looks like a password in a connection string of either form, well-formed or not."""
    text = _IN_AUTHORITY.sub(rf"\1{MASK}@", text)
    text = _IN_QUERY.sub(rf"\1{MASK}", text)
    return _IN_PAIRS.sub(rf"\1{MASK}", text)


def read_dsn(text: str) -> Dsn:
    """Check a connection string as far as that is possible without connecting.

    Raises:
        ValueError: libpq couldn't read it. The message is the reason, and quotes nothing that may be secret.
    """
    text = text.strip()
    reason = _why_unusable(text)
    if reason:
        raise ValueError(reason)
    return Dsn(text)


def _why_unusable(text: str) -> str:
    if not text:
        return "it is empty"
    if "\0" in text:
        return "it holds the character NUL"
    scheme, found, _ = text.partition("://")
    if found and not _URL_SCHEME.match(text) and re.fullmatch(r"[\w+.:-]+", scheme):
        return "a URL begins with postgresql://"
    try:
        parts = conninfo_to_dict(text)
    except (psycopg.Error, UnicodeError) as error:
        return _explain(str(error))
    if not re.fullmatch(r"(\d+(,\d+)*|,*)", str(parts.get("port") or ""), re.ASCII):
        return "its port is no number; in a URL's password, / is written %2F, : %3A, @ %40, % %25"
    return ""


def _explain(words_of_libpq: str) -> str:
    unknown = _UNKNOWN_OPTION.search(words_of_libpq)
    options = [option.keyword.decode() for option in Conninfo.get_defaults()]
    # A word that is close to an option's name is a slip of the pen. Any other may be a piece of a password.
    near = get_close_matches(unknown[1], options, n=1, cutoff=0.7) if unknown else []
    if unknown and near:
        return f"it has no option {unknown[1]}; did you mean {near[0]}?"
    return "libpq can't read it: an unknown option, or a password with characters that need quotes or %-escapes"
