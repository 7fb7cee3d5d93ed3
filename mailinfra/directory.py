"""The directory: who has an address, where their mailbox lives, and how they log in.

A users file (CSV, JSON lines or YAML) becomes two documents for each region: `routes.jsonl`, every address of the
fleet and where it leads, and `accounts.jsonl`, password hashes of the region's own residency zone. A plain
password is never stored: the file holds a hash, or says where to ask for the password.
"""

import csv
import getpass
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from mailinfra import names, wording
from mailinfra.backup.plan import followers
from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import DOMAIN, AttributeName, AttributeValue, Fleet, Model
from mailinfra.placement import homes, place_users
from mailinfra.wording import Words

ORIGIN = "origin"
"""In a user's route: the host where the user is at home when nothing is lost; only while the user lives elsewhere."""
ADDRESS = rf"^[a-z0-9_=-](?:[a-z0-9_=.-]{{0,62}}[a-z0-9_=-])?@{DOMAIN}$"
DirectoryAddress = Annotated[
    str,
    Field(pattern=ADDRESS, max_length=254),
    Words(
        "a mail address in lower case; before the @ letters, digits, _ = - and inner dots, at most 64 characters"
    ),
]
PasswordHash = Annotated[
    str,
    Field(
        pattern=r"^(?:\{ARGON2ID\}\$argon2id\$[!-9;-~]+|\{BLF-CRYPT\}\$2[aby]\$[!-9;-~]+|\{SHA512-CRYPT\}\$6\$[!-9;-~]+)?$",
        max_length=512,
    ),
    Words("a hash that begins with {ARGON2ID}$argon2id$, {BLF-CRYPT}$2y$ or {SHA512-CRYPT}$6$"),
]
PasswordSource = Annotated[
    str,
    Field(pattern=r"^(?:prompt|env:[A-Za-z_][A-Za-z0-9_]*|file:[^\p{Cc}]+)?$", max_length=512),
    Words("prompt, env:NAME or file:PATH"),
]

ARGON2_MEMORY_KIB, ARGON2_PASSES = 65_536, 3
"""RFC 9106's second recommended option but for one lane, which is what libsodium, and so Dovecot, uses."""


class User(Model):
    """A person with a mailbox."""

    address: DirectoryAddress
    """The address, and the name to log in with."""
    aliases: tuple[DirectoryAddress, ...] = ()
    """Other addresses of the same mailbox; the user may write as each of them."""
    attributes: dict[AttributeName, AttributeValue] = Field(default_factory=dict)
    """What the placement rules look at, for example `country`."""
    password_hash: PasswordHash = ""
    """The password's hash with its scheme."""
    password_from: PasswordSource = ""
    """Where to ask for the password instead: the terminal, an environment variable, the first line of a file."""
    quota_bytes: int = Field(default=0, ge=0)
    """The mailbox's largest size in bytes; 0 is unlimited."""
    enabled: bool = True
    """Whether the user may log in. Mail is delivered either way."""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if bool(self.password_hash) == bool(self.password_from):
            raise ValueError("one of password_hash and password_from")
        return self


class Group(Model):
    """An address that leads to other addresses of the fleet."""

    address: DirectoryAddress
    """The address."""
    targets: tuple[DirectoryAddress, ...] = Field(min_length=1)
    """Where its mail goes."""


@dataclass(frozen=True)
class Directory:
    """What a users file says."""

    users: tuple[User, ...]
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Document:
    """One object of a region's control bucket."""

    region: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Move:
    """A user whose mailbox is elsewhere than the new directory says: region and host, before and after."""

    user: str
    before: tuple[str, str]
    after: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.user}: from {self.before[1]} to {self.after[1]}"


def read_directory(path: Path, fleet: Fleet) -> Directory:
    """The users file at `path`, checked.

    `.csv`: a header line; `aliases` and `targets` separated by spaces, every other column an attribute. `.jsonl`:
    one object a line. `.yaml`, `.yml`: a list of mappings. Raises ConfigError with every problem and its line.
    """
    readers: dict[str, Callable[[str], Iterable[tuple[int, Any]]]] = {
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".yaml": _yaml,
        ".yml": _yaml,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise ConfigError([Problem(str(path), f"a file ending in {path.suffix!r}", ", ".join(readers))])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), str(error), "a readable file in UTF-8")]) from None
    found: list[tuple[int, User | Group]] = []
    problems: list[Problem] = []
    try:
        for line, data in reader(text):
            kind = Group if isinstance(data, dict) and "targets" in data else User
            try:
                found.append((line, kind.model_validate(data)))
            except ValidationError as error:
                problems += (_located(f"{path}:{line}", kind, item) for item in error.errors())
    except _UnreadableError as error:
        problems.append(Problem(f"{path}:{error.line}", error.found, error.allowed))
    problems += _directory_problems(path, found, fleet)
    if not found and not problems:
        problems.append(Problem(str(path), "no users", "one user or more"))
    if problems:
        raise ConfigError(problems)
    return Directory(
        tuple(item for _, item in found if isinstance(item, User)),
        tuple(item for _, item in found if isinstance(item, Group)),
    )


def notes(directory: Directory, fleet: Fleet) -> tuple[str, ...]:
    """What the directory lacks that others expect of a domain, one line each."""
    known = {address for item in directory.users for address in (item.address, *item.aliases)}
    known |= {group.address for group in directory.groups}
    wanted = [(f"postmaster@{domain}", "RFC 5321 4.5.1") for domain in fleet.domains]
    wanted += [(f"abuse@{domain}", "RFC 2142 2") for domain in fleet.domains]
    reports = {
        fleet.authentication.dmarc_reports or f"dmarc@{fleet.primary_domain}": "DMARC reports go there"
    }
    reports[fleet.authentication.tls_reports or f"tls-reports@{fleet.primary_domain}"] = (
        "TLS reports go there"
    )
    wanted += [
        (address, why) for address, why in reports.items() if address.rpartition("@")[2] in fleet.domains
    ]
    return tuple(f"{address} leads nowhere ({why})" for address, why in wanted if address not in known)


def hashes(
    users: Sequence[User],
    current: Mapping[str, str],
    ask: Callable[[str], str] = getpass.getpass,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The password hash of each user, ARGON2ID where the file says to ask for it.

    `current` is the hashes in use: one that the password still fits is kept, so that nothing changes that need
    not. Raises ConfigError for a password that is not there.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for user in users:
        if user.password_hash:
            found[user.address] = user.password_hash
            continue
        try:
            password = _password(user, ask, environment)
        except (KeyError, OSError, EOFError, UnicodeDecodeError):
            problems.append(
                Problem(f"{user.address}.password_from", repr(user.password_from), "a source that exists")
            )
            continue
        if not password:
            problems.append(Problem(f"{user.address}.password_from", "an empty password", "a password"))
            continue
        before = current.get(user.address, "")
        found[user.address] = before if _fits(before, password) else _argon2id(password)
    if problems:
        raise ConfigError(problems)
    return found


def documents(
    fleet: Fleet,
    directory: Directory,
    passwords: Mapping[str, str],
    current: Mapping[str, tuple[str, str]],
    origins: Mapping[str, str] | None = None,
) -> tuple[tuple[Document, ...], tuple[Move, ...]]:
    """The documents of every region, and the moves that publishing them would make.

    `current` maps a user to the (region, mailbox host) that hold the mailbox now. A mailbox stays on its host as
    long as the host exists and the rules say the same region, so that a new node moves nobody. `origins` are the hosts
    of users who live with their replica for now (`mailinfra.failover`): these stay there.
    """
    table = homes(fleet)
    chosen = place_users(table, ((user.address, user.attributes) for user in directory.users))
    moves: list[Move] = []
    placed: dict[str, tuple[str, str]] = {}
    region_of = {host: region for region, hosts in table.hosts.items() for host in hosts}
    away: dict[str, tuple[str, str]] = {}
    for user, after in zip(directory.users, chosen, strict=True):
        before = current.get(user.address)
        origin = (origins or {}).get(user.address, "")
        if before is not None and origin and region_of.get(origin) == after[0]:
            away[user.address], before = before, (after[0], origin)
        if before is not None and before[0] == after[0] and before[1] in table.hosts[after[0]]:
            placed[user.address] = before
            continue
        placed[user.address] = after
        if before is not None:
            moves.append(Move(user.address, before, after))
    zone_of = {region.region: region.zone for region in fleet.regions}
    routes = jsonl(_routes(directory, placed, away, zone_of, followers(fleet)))
    accounts = {
        zone: jsonl(
            _account(user, passwords[user.address])
            for user in directory.users
            if zone_of[placed[user.address][0]] == zone
        )
        for zone in set(zone_of.values())
    }
    return (
        tuple(
            document
            for region in fleet.regions
            for document in (
                Document(region.region, names.ROUTES_KEY, routes),
                Document(region.region, names.ACCOUNTS_KEY, accounts[region.zone]),
            )
        ),
        tuple(moves),
    )


def mailboxes(routes: bytes) -> dict[str, tuple[str, str]]:
    """User to (region, mailbox host) in a `routes.jsonl`. ValueError where it is not one."""
    found = {}
    for line in routes.splitlines():
        item = json.loads(line)
        if item.get("kind") == "user":
            found[item["user"]] = (item["home"], item["mailbox_host"])
    return found


def origins(routes: bytes) -> dict[str, str]:
    """User to the host that is the home when nothing is lost, of those who live elsewhere for now. ValueError where
    `routes` is no `routes.jsonl`."""
    found = map(json.loads, routes.splitlines())
    return {item["user"]: item[ORIGIN] for item in found if item.get("kind") == "user" and ORIGIN in item}


def stored_hashes(accounts: bytes) -> dict[str, str]:
    """User to password hash in an `accounts.jsonl`. ValueError where it is not one."""
    return {item["user"]: item["password"] for item in map(json.loads, accounts.splitlines())}


def _routes(
    directory: Directory,
    placed: Mapping[str, tuple[str, str]],
    away: Mapping[str, tuple[str, str]],
    zone_of: Mapping[str, str],
    replicas: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    for user in directory.users:
        home, host = placed[user.address]
        followed = {"replica": replicas[host]} if host in replicas else {}
        if user.address in away:
            followed = {"replica": host, ORIGIN: host}
            home, host = away[user.address]
        where = {"home": home, "zone": zone_of[home], "mailbox_host": host}
        yield {"address": user.address, "kind": "user", "user": user.address, **where, **followed}
        for alias in user.aliases:
            yield {"address": alias, "kind": "alias", "targets": [user.address], **where}
    for group in directory.groups:
        yield {"address": group.address, "kind": "alias", "targets": list(group.targets)}


def _account(user: User, password: str) -> dict[str, Any]:
    return {
        "user": user.address,
        "password": password,
        "senders": [user.address, *user.aliases],
        "quota_bytes": user.quota_bytes,
        "enabled": user.enabled,
    }


def jsonl(items: Iterable[dict[str, Any]]) -> bytes:
    """JSON lines, sorted, so that the same directory is the same document."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return "".join(f"{line}\n" for line in sorted(encode(item) for item in items)).encode()


class _UnreadableError(Exception):
    def __init__(self, line: int, found: str, allowed: str) -> None:
        super().__init__(found)
        self.line, self.found, self.allowed = line, found, allowed


_AS_MANY = "as many; a cell with a comma in it, as a password hash has, in double quotes"
_FIELDS = frozenset(User.model_fields) | frozenset(Group.model_fields)


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "address" not in (reader.fieldnames or ()):
            raise _UnreadableError(1, wording.shown(reader.fieldnames), "a header line with a column address")
        for row in reader:
            if None in row or None in row.values():
                raise _UnreadableError(
                    reader.line_num, "a line with more or fewer cells than the header", _AS_MANY
                )
            cells = {name: value.strip() for name, value in row.items() if value.strip()}
            data: dict[str, Any] = {name: value for name, value in cells.items() if name in _FIELDS}
            for name in ("aliases", "targets"):
                if name in data:
                    data[name] = data[name].split()
            attributes = {name: value for name, value in cells.items() if name not in _FIELDS}
            if attributes:
                data["attributes"] = attributes
            yield reader.line_num, data
    except csv.Error as error:
        raise _UnreadableError(reader.line_num + 1, str(error), "CSV as RFC 4180 has it") from None


def _jsonl(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _UnreadableError(number, str(error), "a JSON object on each line") from None


def _yaml(text: str) -> Iterator[tuple[int, Any]]:
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise _UnreadableError(
                node.start_mark.line + 1,
                f"a {type(node).__name__.removesuffix('Node').lower()}",
                "a list of users",
            )
        for item in node.value:
            yield item.start_mark.line + 1, loader.construct_document(item)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        found = getattr(error, "problem", None) or str(error)
        raise _UnreadableError(mark.line + 1 if mark else 1, found, "YAML") from None
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(1, str(error), "YAML") from None
    finally:
        loader.dispose()


def _located(place: str, kind: type[User | Group], item: Any) -> Problem:
    problem = wording.problem(kind, item)
    first = str(item["loc"][0]) if item["loc"] else ""
    if first == "password":
        return Problem(
            f"{place} password", "a plain password", "password_hash, or password_from: never the password"
        )
    found = "a value that is not shown" if first.startswith("password") else problem.found
    if not first:
        found = "both or neither" if item["type"] == "value_error" else problem.found
    return Problem(place if problem.path == "fleet" else f"{place} {problem.path}", found, problem.allowed)


def _directory_problems(
    path: Path, found: Sequence[tuple[int, User | Group]], fleet: Fleet
) -> Iterator[Problem]:
    owners: dict[str, int] = {}
    domains = set(fleet.domains)
    for line, item in found:
        for address in (item.address, *(item.aliases if isinstance(item, User) else ())):
            if address.rpartition("@")[2] not in domains:
                yield Problem(f"{path}:{line}", repr(address), f"an address in {', '.join(fleet.domains)}")
            if ".." in address:
                yield Problem(f"{path}:{line}", repr(address), "an address without two dots in a row")
            first = owners.setdefault(address, line)
            if first != line or (isinstance(item, User) and (item.address, *item.aliases).count(address) > 1):
                yield Problem(f"{path}:{line}", f"{address!r}, as line {first} has", "each address once")
    leads = {item.address: item.targets for _, item in found if isinstance(item, Group)}
    for line, item in found:
        if isinstance(item, Group):
            for index, target in enumerate(item.targets):
                if target not in owners:
                    yield Problem(
                        f"{path}:{line} targets[{index}]", repr(target), "an address of this directory"
                    )
            if _in_circle(item.address, leads):
                yield Problem(f"{path}:{line} targets", f"{item.address!r} leads back to itself", "no circle")


def _in_circle(start: str, leads: Mapping[str, Sequence[str]]) -> bool:
    todo, seen = list(leads[start]), set[str]()
    while todo:
        item = todo.pop()
        if item == start:
            return True
        if item not in seen:
            seen.add(item)
            todo += leads.get(item, ())
    return False


def _password(user: User, ask: Callable[[str], str], environment: Mapping[str, str]) -> str:
    kind, _, name = user.password_from.partition(":")
    if kind == "env":
        return environment[name]
    if kind == "file":
        lines = Path(name).expanduser().read_text(encoding="utf-8").splitlines()
        return lines[0] if lines else ""
    return ask(f"Password of {user.address}: ")


_SCHEME = re.compile(r"^\{[A-Z0-9-]+\}")


def _fits(stored: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    if not stored.startswith("{ARGON2ID}"):
        return False
    try:
        return PasswordHasher().verify(_SCHEME.sub("", stored), password)
    except (Argon2Error, InvalidHashError):
        return False


def _argon2id(password: str) -> str:
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=ARGON2_PASSES, memory_cost=ARGON2_MEMORY_KIB, parallelism=1)
    return f"{{ARGON2ID}}{hasher.hash(password)}"
