"""Whose mail is signed, and as whom: exactly one author, in a domain that this milter holds a key for."""

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# RFC 5322 3.4 less what nobody needs and readers disagree about: groups, routes, nested comments.
ATOM = rb'[^\x00-\x20"(),:;<>@\[\\\]\x7f]'
QUOTED = rb'"(?:[^"\\\x00]|\\[^\x00])*+"'
COMMENT = rb'\([^\x00()<>@"\\]*+\)'
ADDRESS = rb"(" + ATOM + rb"++|" + QUOTED + rb")@(" + ATOM + rb"++)"
SPACE = rb"(?:[ \t]|" + COMMENT + rb")*+"
BARE = re.compile(SPACE + ADDRESS + SPACE)
NAMED = re.compile(
    rb"(?:" + ATOM + rb"|[ \t]|" + QUOTED + rb"|" + COMMENT + rb")*+<[ \t]*+" + ADDRESS + rb"[ \t]*+>" + SPACE
)

# What no header field may hold: NUL, bare CR, white space only to some, a line that continues none.
FORBIDDEN = re.compile(rb"[\x00\r\x0b\x0c]|\n(?![ \t])")
NAME = re.compile(rb"[!-9;-~]++[ \t]*+")
SYSTEM = (b"mailer-daemon", b"postmaster")


class RefusedError(Exception):
    """The message is not ours to sign. Its text is the SMTP reply: code, enhanced code (RFC 3463), reason."""


def author(froms: list[bytes]) -> tuple[bytes, str]:
    """Return local part and domain of the one author, from all values of From:, or raise `RefusedError`."""
    if len(froms) != 1:
        raise RefusedError(
            f"550 5.7.1 {len(froms)} From: header fields, allowed is exactly one (RFC 5322 3.6)"
        )
    value = froms[0].replace(b"\r\n", b"").replace(b"\n", b"")
    match = BARE.fullmatch(value) or NAMED.fullmatch(value)
    if not match:
        raise RefusedError("550 5.7.1 From: is not exactly one plain address (RFC 5322 3.4)")
    return match[1], match[2].decode("utf-8", "replace").lower()


def judge(
    domains: Mapping[str, T], froms: list[bytes], sender: bytes, login: bytes, *, auth: bool, match: bool
) -> T:
    """Return what `domains` holds for the author's domain, or raise `RefusedError`.

    `sender` is the envelope sender as MAIL FROM gave it, `login` the authenticated user or empty. `auth`
    demands a login. `match` demands that the author is the envelope sender or the login; with the null
    sender, that it is the login or the mail system itself.
    """
    if auth and not login:
        raise RefusedError("530 5.7.0 Authentication required")
    sender = sender.removeprefix(b"<").removesuffix(b">")
    if sender and sender.rpartition(b"@")[2].decode("utf-8", "replace").lower() not in domains:
        raise RefusedError("550 5.7.1 The envelope sender is in no domain of this fleet")
    local, domain = author(froms)
    if domain not in domains:
        raise RefusedError("550 5.7.1 The address in From: is in no domain of this fleet")
    address = local.lower() + b"@" + domain.encode()
    if match and address not in (sender.lower(), login.lower()) and (sender or local.lower() not in SYSTEM):
        raise RefusedError("550 5.7.1 The address in From: is not the sender's own")
    return domains[domain]
