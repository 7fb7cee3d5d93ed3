"""The sandbox's users: one for each way in which the fleet places people, with passwords made on the spot."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mailinfra.directory import Directory, Group, User
from mailinfra.fleet import Fleet
from mailinfra.sandbox.processes import write_atomic

NAMES = ("anna", "ben", "chiara", "dmitri", "elif", "farah", "george", "hana", "ivan", "jana", "kofi", "lena")
"""Given names; users beyond them are numbered."""


@dataclass(frozen=True)
class Person:
    """One user of the sandbox. The password is in clear: it is good for nothing outside."""

    address: str
    password: str
    attributes: dict[str, str]
    home: str
    """The home region that the placement rules give."""


def invent(fleet: Fleet) -> tuple[Person, ...]:
    """Two people for each home region (the first rule that leads there says what they are like)."""
    wanted: dict[str, dict[str, str]] = {}
    for rule in fleet.placement.rules:
        wanted.setdefault(rule.home, {rule.attribute: rule.values[0]})
    wanted.setdefault(fleet.placement.default, {})
    people: list[Person] = []
    for home, attributes in wanted.items():
        for _ in range(2):
            number = len(people)
            name = NAMES[number] if number < len(NAMES) else f"user{number}"
            people.append(
                Person(f"{name}@{fleet.primary_domain}", secrets.token_urlsafe(18), attributes, home)
            )
    return tuple(people)


def load_or_invent(fleet: Fleet, path: Path) -> tuple[Person, ...]:
    """The people kept at `path` (mode 0600) if they still fit the fleet, else new ones, kept there."""
    if path.exists():
        kept = tuple(Person(**item) for item in json.loads(path.read_text()))
        if [(p.address, p.home, p.attributes) for p in kept] == [
            (p.address, p.home, p.attributes) for p in invent(fleet)
        ]:
            return kept
    people = invent(fleet)
    save(people, path)
    return people


def as_directory(people: Sequence[Person], fleet: Fleet) -> tuple[Directory, dict[str, str]]:
    """The people as a users file would say them, with the environment that their passwords are asked from.

    The second of each pair has an alias in every other domain; the role addresses (RFC 2142) lead to the first.
    """
    users, passwords = [], {}
    for number, person in enumerate(people):
        variable = f"SANDBOX_PASSWORD_{number}"
        passwords[variable] = person.password
        local = person.address.partition("@")[0]
        aliases = tuple(f"{local}@{domain}" for domain in fleet.domains[1:]) if number % 2 else ()
        users.append(
            User(
                address=person.address,
                aliases=aliases,
                attributes=person.attributes,
                password_from=f"env:{variable}",
            )
        )
    groups = tuple(
        Group(address=f"{role}@{domain}", targets=(people[0].address,))
        for domain in fleet.domains
        for role in ("postmaster", "abuse", "dmarc", "tls-reports")
    )
    return Directory(tuple(users), groups), passwords


def save(people: Sequence[Person], path: Path) -> None:
    """Keep the people, readable by the owner only."""
    write_atomic(path, json.dumps([asdict(person) for person in people], indent=1))
    path.chmod(0o600)
