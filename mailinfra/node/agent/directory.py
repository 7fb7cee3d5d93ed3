"""The node's copy of the directory: pulled from the control bucket, checked line by line, made into lookups.

A generation of lookups is a folder of its own; `current` is a link that is moved to it when all of it is
written. Whatever goes wrong, the last good generation stays.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mailinfra.node.agent import cdb
from mailinfra.node.agent.bucket import Bucket
from mailinfra.node.agent.node import Node, announce, write

log = logging.getLogger("directory")
T = TypeVar("T")

ROUTES, ACCOUNTS = "routes.jsonl", "accounts.jsonl"
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"(?:{LABEL}\.)+{LABEL}"
ADDRESS = re.compile(rf"(?!\.)[a-z0-9_=.-]{{1,64}}(?<!\.)@{DOMAIN}")
HOST = re.compile(DOMAIN)
PASSWORD = re.compile(r"\{[A-Z0-9.-]+\}[!-9;-~]+")


@dataclass(frozen=True)
class Route:
    """Where an address leads: to a mailbox, or (`targets`) to other addresses of the fleet. `replica` is the host of
    the node that follows the mailbox; empty where none does."""

    address: str
    targets: tuple[str, ...] = ()
    zone: str = ""
    host: str = ""
    replica: str = ""


@dataclass(frozen=True)
class Account:
    """Who may log in, and as which senders they may write."""

    user: str
    password: str
    senders: tuple[str, ...]
    quota: int
    enabled: bool


def _text(line: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = line.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name} is {value!r}")
    return value


def _texts(line: dict[str, Any], name: str) -> tuple[str, ...]:
    values = line.get(name)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} is {values!r}")
    return tuple(_text({name: value}, name, ADDRESS) for value in values)


def _route(line: dict[str, Any]) -> tuple[str, Route]:
    address = _text(line, "address", ADDRESS)
    if line.get("kind") == "alias":
        return address, Route(address, targets=_texts(line, "targets"))
    if line.get("kind") != "user":
        raise ValueError(f"kind is {line.get('kind')!r}")
    user = _text(line, "user", ADDRESS)
    if user != address:
        return address, Route(address, targets=(user,))
    zone, host = _text(line, "zone", re.compile(LABEL)), _text(line, "mailbox_host", HOST)
    replica = _text(line, "replica", HOST) if "replica" in line else ""
    if replica == host:
        raise ValueError(f"replica is {replica!r}, the mailbox host itself")
    return address, Route(address, zone=zone, host=host, replica=replica)


def _account(line: dict[str, Any]) -> tuple[str, Account]:
    user, quota, enabled = _text(line, "user", ADDRESS), line.get("quota_bytes", 0), line.get("enabled", True)
    password = line.get("password")
    if not isinstance(password, str) or not PASSWORD.fullmatch(password):
        raise ValueError("password is not a {SCHEME}hash")
    if not isinstance(quota, int) or quota < 0 or not isinstance(enabled, bool):
        raise ValueError(f"quota_bytes is {quota!r}, enabled is {enabled!r}")
    return user, Account(user, password, _texts(line, "senders"), quota, enabled)


def _parse(text: bytes, name: str, read: Callable[[dict[str, Any]], tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError("not an object")
            key, value = read(data)
            if key in found:
                raise ValueError(f"{key} is there twice")
        except ValueError as error:
            raise ValueError(f"{name}:{number}: {error}") from error
        found[key] = value
    return found


def routes(text: bytes) -> dict[str, Route]:
    """The routes in `routes.jsonl`, by address. At least one.

    `ValueError` names the line, or the alias that leads nowhere.
    """
    found = _parse(text, ROUTES, _route)
    if not found:
        # Not a fleet without users: something went wrong, and all mail would be refused for good.
        raise ValueError(f"{ROUTES}: no addresses")
    for address in found:
        members(found, address)
    return found


def accounts(text: bytes) -> dict[str, Account]:
    """The accounts in `accounts.jsonl`, by user. `ValueError` names the line."""
    return _parse(text, ACCOUNTS, _account)


def members(found: dict[str, Route], address: str) -> list[Route]:
    """The mailboxes that an address leads to. `ValueError` when it leads nowhere, or back to itself."""
    boxes: dict[str, Route] = {}
    todo, passed = [address], set[str]()
    while todo:
        item = todo.pop()
        if item in passed:
            continue
        passed.add(item)
        if item not in found:
            raise ValueError(f"{ROUTES}: {address} leads to {item}, which is not there")
        todo += reversed(found[item].targets)
        if not found[item].targets:
            boxes[item] = found[item]
    if not boxes:
        raise ValueError(f"{ROUTES}: {address} leads only to itself")
    return list(boxes.values())


def _home(node: Node, boxes: list[Route]) -> str:
    """The host to which mail must pass without being written here, or empty."""
    return "" if any(box.zone == node.zone for box in boxes) else boxes[0].host


def _logins(
    node: Node, found: dict[str, Route], known: dict[str, Account], service: str, port: int
) -> Iterator[str]:
    """Dovecot's passwd-file for one protocol: own users with a hash, others passed on to their home.

    A mailbox node passes its zone's users on as well: while a user moves, some proxies still lead to the old home or
    lead to the new one sooner than it knows, and whoever is asked there must not answer "wrong password".
    """
    proxy = service in node.roles
    for box in found.values():
        own, here = box.zone == node.zone, box.host == node.hostname
        if box.targets or not (own or proxy):
            continue
        forward = "" if here else f"proxy=y host={box.host} port={port} ssl=yes"
        if not (own or here):
            yield f"{box.address}:::::::nopassword=y {forward}\n"
        # Nobody gets in where the mail is without a hash, whatever zone the directory names.
        elif (account := known.get(box.address)) and account.enabled:
            yield f"{box.address}:{account.password}::::::{forward}\n"


def _follows(node: Node, box: Route) -> bool:
    """Whether this node keeps the replica of a mailbox. Never one of another zone, whatever the directory says."""
    return box.replica == node.hostname and box.zone == node.zone


def replicas(node: Node, boxes: Iterable[Route]) -> dict[str, dict[str, str]]:
    """What `mailinfra.node.replica.gate` reads: users at home here with their replica's host (`followed`), and users
    whose replica is here with their home's host (`follows`)."""
    found: dict[str, dict[str, str]] = {"followed": {}, "follows": {}}
    for box in boxes:
        if box.host == node.hostname and box.replica:
            found["followed"][box.address] = box.replica
        if _follows(node, box):
            found["follows"][box.address] = box.host
    return found


def lookups(node: Node, found: dict[str, Route], known: dict[str, Account]) -> Iterator[tuple[str, bytes]]:
    """The files that Postfix, Dovecot and homeward read, for the roles of a node."""
    boxes = [route for route in found.values() if not route.targets]
    local = "lmtp:unix:private/dovecot-lmtp"

    def lines(text: Iterable[str]) -> bytes:
        return "".join(text).encode()

    yield "mailboxes.cdb", cdb.make((box.address, "OK") for box in boxes)
    yield (
        "aliases.cdb",
        cdb.make((item.address, ", ".join(item.targets)) for item in found.values() if item.targets),
    )
    yield (
        "transport.cdb",
        cdb.make(
            (box.address, local if box.host == node.hostname else f"home:[{box.host}]:2525") for box in boxes
        ),
    )
    if "mx" in node.roles:
        away = ((item, _home(node, members(found, item))) for item in found) if node.strict else ()
        yield "away.cdb", cdb.make((address, host) for address, host in away if host)
    if "mailbox" in node.roles:
        here = {item: any(box.host == node.hostname for box in members(found, item)) for item in found}
        verdicts = {True: "OK", False: "451 4.3.0 This mailbox lives on another server now"}
        yield "here.cdb", cdb.make((address, verdicts[value]) for address, value in here.items())
        quotas = {box.address: known[box.address].quota for box in boxes if box.address in known}
        yield "replicas.json", json.dumps(replicas(node, boxes), sort_keys=True).encode()
        yield (
            "users",
            lines(
                f"{box.address}:::::::"
                + (f"userdb_quota_rule=*:bytes={quotas[box.address]}" if quotas.get(box.address) else "")
                + "\n"
                for box in boxes
                if box.host == node.hostname or _follows(node, box)
            ),
        )
    if "submission" in node.roles:
        senders: dict[str, list[str]] = {}
        for account in known.values():
            for sender in account.senders if account.enabled else ():
                senders.setdefault(sender, []).append(account.user)
        yield "senders.cdb", cdb.make((sender, ", ".join(users)) for sender, users in senders.items())
        yield (
            "auth-smtp",
            lines(f"{item.user}:{item.password}::::::\n" for item in known.values() if item.enabled),
        )
    for service, port in (("imap", 993), ("pop3", 995)):
        if service in node.roles or "mailbox" in node.roles:
            yield f"auth-{service}", lines(_logins(node, found, known, service, port))


class Directory:
    """Keeps the node's lookups like the bucket's directory."""

    def __init__(self, node: Node, bucket: Bucket) -> None:
        self.node, self.bucket = node, bucket
        self.folder = node.state / "directory"
        needed = {"submission", "imap", "pop3", "mailbox"} & set(node.roles)
        # A node that asks nobody for a password holds no hash.
        self.names = (ROUTES, ACCOUNTS) if needed else (ROUTES,)
        self.versions: dict[str, str] = {}

    def step(self) -> None:
        """Pull what has changed and make new lookups of it. `ValueError` for a directory that is wrong."""
        pulled = {
            name: self.bucket.get(f"directory/{name}", self.versions.get(name, "")) for name in self.names
        }
        if not any(pulled.values()):
            return
        current = self.folder / "current"
        texts = {name: item.data if item else (current / name).read_bytes() for name, item in pulled.items()}
        found, known = routes(texts[ROUTES]), accounts(texts.get(ACCOUNTS, b""))
        files = texts | dict(lookups(self.node, found, known))
        old = current.resolve() if current.exists() else None
        if not old or any(
            not (old / name).exists() or (old / name).read_bytes() != data for name, data in files.items()
        ):
            self.swap(current, old, files)
            log.info("%d addresses, %d accounts", len(found), len(known))
        self.versions |= {name: item.version for name, item in pulled.items() if item}

    def swap(self, current: Path, old: Path | None, files: dict[str, bytes]) -> None:
        """Put a new generation in the place of the old one."""
        number = int(old.name) + 1 if old else 1
        fresh = self.folder / str(number)
        for rest in self.folder.iterdir():
            if rest not in (current, old):
                shutil.rmtree(rest) if rest.is_dir() and not rest.is_symlink() else rest.unlink()
        fresh.mkdir()
        for name, data in files.items():
            write(fresh / name, data, 0o644 if name.endswith(".cdb") else 0o640)
        link = self.folder / "next"
        link.symlink_to(fresh.name)
        link.replace(current)
        announce(self.node.tls)
        if old:
            # Postfix sees by the vanished file that it has to open the new one.
            shutil.rmtree(old)
