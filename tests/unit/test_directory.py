"""The users file, and the documents that it becomes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailinfra import names
from mailinfra.directory import (
    Directory,
    Group,
    User,
    documents,
    hashes,
    mailboxes,
    notes,
    read_directory,
    stored_hashes,
)
from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet
from mailinfra.node.agent import directory as agent
from mailinfra.placement import mailbox_host
from tests.fleets import fleet

HASH = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"
CSV = f"""address,aliases,country,department,password_hash,quota_bytes,enabled
anna@example.test,a.berg@example.test anna@second.test,DE,,"{HASH}",1000000,true
bob@example.test,,US,research,"{HASH}",,false
"""
JSONL = "\n".join(
    json.dumps(item)
    for item in (
        {
            "address": "anna@example.test",
            "aliases": ["a.berg@example.test", "anna@second.test"],
            "attributes": {"country": "DE"},
            "password_hash": HASH,
            "quota_bytes": 1000000,
        },
        {
            "address": "bob@example.test",
            "attributes": {"country": "US", "department": "research"},
            "password_hash": HASH,
            "enabled": False,
        },
    )
)
YAML = f"""
- address: anna@example.test
  aliases: [a.berg@example.test, anna@second.test]
  attributes: {{country: DE}}
  password_hash: "{HASH}"
  quota_bytes: 1000000
- address: bob@example.test
  attributes: {{country: US, department: research}}
  password_hash: "{HASH}"
  enabled: false
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def action(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return action


def _user(address: str, **more: object) -> User:
    return User.model_validate({"address": address, "password_hash": HASH, **more})


@pytest.mark.parametrize(
    ("name", "text"), [("u.csv", CSV), ("u.jsonl", JSONL), ("u.yaml", YAML), ("u.yml", YAML)]
)
def test_the_three_forms_say_the_same(write: Write, name: str, text: str) -> None:
    assert read_directory(write(name, text), fleet()) == Directory(
        (
            _user(
                "anna@example.test",
                aliases=["a.berg@example.test", "anna@second.test"],
                attributes={"country": "DE"},
                quota_bytes=1000000,
            ),
            _user("bob@example.test", attributes={"country": "US", "department": "research"}, enabled=False),
        )
    )


GROUP = YAML + "- {address: g@example.test, targets: "
WRONG = [
    ("u.csv", CSV.replace("bob@", "anna@"), ":3", "'anna@example.test', as line 2 has", "each address once"),
    (
        "u.csv",
        CSV.replace("bob@example.test", "bob@other.test"),
        ":3",
        "'bob@other.test'",
        "example.test, second.test",
    ),
    ("u.csv", CSV.replace("bob@", "Bob@"), ":3 address", "'Bob@example.test'", "in lower case"),
    ("u.csv", CSV.replace("bob@", "b..ob@"), ":3", "'b..ob@example.test'", "two dots"),
    (
        "u.csv",
        CSV.replace(f'"{HASH}",,', ",,"),
        ":3",
        "both or neither",
        "one of password_hash and password_from",
    ),
    (
        "u.csv",
        CSV.replace(f'"{HASH}",,', "hunter2,,"),
        ":3 password_hash",
        "a value that is not shown",
        "{ARGON2ID}",
    ),
    ("u.csv", CSV.replace("1000000", "-1"), ":2 quota_bytes", "'-1'", "0 or more"),
    ("u.csv", CSV.replace("DE", "D\x07"), ":2 attributes.country", "'D\\x07'", "without control"),
    ("u.csv", CSV.replace("country", "Country"), ":2 attributes.Country", "'Country'", "lower case"),
    ("u.csv", "name\nx\n", ":1", "['name']", "a column address"),
    ("u.csv", CSV + "x\n", ":4", "a line with more or fewer cells", "as many"),
    ("u.csv", 'address\n"x"y\n', ":2", "expected after", "RFC 4180"),
    ("u.csv", "", ":1", "None", "a column address"),
    ("u.csv", "address\n", "", "no users", "one user"),
    ("u.jsonl", "{", ":1", "", "a JSON object"),
    ("u.jsonl", "[]", ":1", "[]", "a mapping with the fields address"),
    ("u.jsonl", JSONL.replace("password_hash", "password"), ":1 password", "a plain password", "never"),
    ("u.yaml", "a: b", ":1", "a mapping", "a list of users"),
    ("u.yaml", "- [", ":2", "", "YAML"),
    ("u.yaml", "\n- 5\n", ":2", "5", "a mapping"),
    ("u.yaml", GROUP + "[x@example.test]}", ":11 targets[0]", "'x@example.test'", "of this"),
    ("u.yaml", GROUP + "[g@example.test]}", ":11 targets", "back to itself", "no circle"),
    ("u.txt", "", "", "'.txt'", ".csv, .jsonl, .yaml, .yml"),
]


@pytest.mark.parametrize(("name", "text", "where", "found", "allowed"), WRONG)
def test_a_wrong_file_is_refused_with_its_line(
    write: Write, name: str, text: str, where: str, found: str, allowed: str
) -> None:
    path = write(name, text)
    with pytest.raises(ConfigError) as error:
        read_directory(path, fleet())
    assert any(
        item.path == f"{path}{where}" and found in item.found and allowed in item.allowed
        for item in error.value.problems
    ), error.value.problems
    assert "hunter2" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_directory(tmp_path / "none.csv", fleet())
    (tmp_path / "latin.csv").write_bytes(b"address\n\xe9@example.test\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_directory(tmp_path / "latin.csv", fleet())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["u.csv", "u.jsonl", "u.yaml"]),
    st.text(max_size=60) | st.sampled_from([CSV, JSONL, YAML]),
    st.data(),
)
def test_any_text_is_read_or_refused(write: Write, name: str, text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    path = write(name, "")
    path.write_bytes(
        (text[:cut] + data.draw(st.text(max_size=5)) + text[cut:]).encode("utf-8", "surrogatepass")
    )
    try:
        assert read_directory(path, fleet()).users
    except ConfigError as error:
        assert all(item.path.startswith(str(path)) for item in error.problems)


def _made(
    one: Fleet, directory: Directory, current: dict[str, tuple[str, str]] | None = None
) -> dict[tuple[str, str], bytes]:
    found, moves = documents(one, directory, {user.address: HASH for user in directory.users}, current or {})
    assert not moves
    return {(item.region, item.path): item.body for item in found}


@pytest.fixture
def directory(write: Write) -> Directory:
    text = YAML + "- {address: team@example.test, targets: [anna@second.test, bob@example.test]}"
    return read_directory(write("u.yaml", text), fleet())


def test_routes_are_everywhere_and_accounts_only_in_their_zone(directory: Directory) -> None:
    made = _made(fleet(), directory)
    routes = {body for (_, path), body in made.items() if path == names.ROUTES_KEY}
    assert len(routes) == 1
    assert len(made) == 8
    lines = [json.loads(line) for line in routes.pop().splitlines()]
    where = {"home": "eu-central-1", "zone": "eu", "mailbox_host": "store-1.eu-central-1.nodes.example.test"}
    # The other cloud's mailbox node of the zone follows.
    followed = where | {"replica": "store-1.europe-west3.nodes.example.test"}
    assert {"address": "anna@example.test", "kind": "user", "user": "anna@example.test", **followed} in lines
    assert {
        "address": "anna@second.test",
        "kind": "alias",
        "targets": ["anna@example.test"],
        **where,
    } in lines
    for region in ("eu-central-1", "europe-west3"):
        assert set(stored_hashes(made[region, names.ACCOUNTS_KEY])) == {"anna@example.test"}
        assert b"bob@example.test" not in made[region, names.ACCOUNTS_KEY]
    account = json.loads(made["us-east-1", names.ACCOUNTS_KEY])
    assert account == {
        "user": "bob@example.test",
        "password": HASH,
        "senders": ["bob@example.test"],
        "quota_bytes": 0,
        "enabled": False,
    }


def test_the_nodes_read_what_is_published(directory: Directory) -> None:
    made = _made(fleet(), directory)
    routes = agent.routes(made["us-east-1", names.ROUTES_KEY])
    boxes = {route.address for route in agent.members(routes, "team@example.test")}
    assert boxes == {"anna@example.test", "bob@example.test"}
    account = agent.accounts(made["eu-central-1", names.ACCOUNTS_KEY])["anna@example.test"]
    assert account.senders == ("anna@example.test", "a.berg@example.test", "anna@second.test")
    assert account.quota == 1000000


def test_documents_do_not_depend_on_the_files_order(directory: Directory) -> None:
    other = Directory(directory.users[::-1], directory.groups)
    assert _made(fleet(), directory) == _made(fleet(), other)


def test_a_mailbox_stays_where_it_is_when_a_node_joins() -> None:
    users = Directory(tuple(_user(f"u{n}@example.test") for n in range(60)))
    grown = fleet(regions__0__groups__2__count=3)
    now = mailboxes(_made(fleet(), users)["us-east-1", names.ROUTES_KEY])
    assert {host for _, host in now.values()} == {"store-1.eu-central-1.nodes.example.test"}
    assert mailboxes(_made(grown, users, now)["us-east-1", names.ROUTES_KEY]) == now
    fresh = mailboxes(_made(grown, users)["us-east-1", names.ROUTES_KEY])
    assert len({host for _, host in fresh.values()}) == 3


def test_moves_are_named() -> None:
    one = fleet()
    users = Directory((_user("anna@example.test", attributes={"country": "US"}),))
    before = ("eu-central-1", "store-1.eu-central-1.nodes.example.test")
    _, moves = documents(one, users, {"anna@example.test": HASH}, {"anna@example.test": before})
    assert [(move.before, move.after[0]) for move in moves] == [(before, "us-east-1")]
    assert str(moves[0]).startswith("anna@example.test: from store-1.eu-central-1")


def test_a_mailbox_whose_node_is_gone_is_a_move() -> None:
    users = Directory((_user("anna@example.test", attributes={"country": "DE"}),))
    before = ("eu-central-1", "store-9.eu-central-1.nodes.example.test")
    _, moves = documents(fleet(), users, {"anna@example.test": HASH}, {"anna@example.test": before})
    assert moves[0].after[1] == mailbox_host("anna@example.test", ["store-1.eu-central-1.nodes.example.test"])


def test_passwords_are_asked_for_and_hashed_once(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\nsecond line\n")
    users = [
        User(address="a@example.test", password_from="prompt"),
        User(address="b@example.test", password_from="env:B_PASSWORD"),
        User(address="c@example.test", password_from=f"file:{secret}"),
        User(address="d@example.test", password_hash=HASH),
    ]
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    first = hashes(users, {}, ask, {"B_PASSWORD": "from the environment"})
    assert asked == ["Password of a@example.test: "]
    assert first["d@example.test"] == HASH
    assert all(
        value.startswith("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$") for value in list(first.values())[:3]
    )
    assert "typed" not in str(first)
    assert hashes(users, first, ask, {"B_PASSWORD": "from the environment"}) == first
    changed = hashes(users, first, ask, {"B_PASSWORD": "another"})
    assert [name for name in first if first[name] != changed[name]] == ["b@example.test"]


def test_a_broken_stored_hash_is_replaced() -> None:
    users = [User(address="a@example.test", password_from="env:A")]
    made = hashes(users, {"a@example.test": "{ARGON2ID}$argon2id$broken"}, environment={"A": "x"})
    assert made["a@example.test"].startswith("{ARGON2ID}$argon2id$v=19$")


def test_missing_passwords_are_all_named() -> None:
    users = [
        User(address="a@example.test", password_from="env:NOT_THERE"),
        User(address="b@example.test", password_from="file:/not/there"),
        User(address="c@example.test", password_from="env:EMPTY"),
    ]
    with pytest.raises(ConfigError) as error:
        hashes(users, {}, environment={"EMPTY": ""})
    assert [item.path for item in error.value.problems] == [f"{user.address}.password_from" for user in users]


def test_what_others_expect_is_noted() -> None:
    lacking = notes(Directory((_user("anna@example.test"),)), fleet())
    assert "postmaster@second.test leads nowhere (RFC 5321 4.5.1)" in lacking
    assert "dmarc@example.test leads nowhere (DMARC reports go there)" in lacking
    addresses = [
        "postmaster@example.test",
        "postmaster@second.test",
        "abuse@example.test",
        "abuse@second.test",
    ]
    addresses += ["dmarc@example.test", "tls-reports@example.test"]
    groups = tuple(Group(address=address, targets=("anna@example.test",)) for address in addresses)
    assert notes(Directory((_user("anna@example.test"),), groups), fleet()) == ()
