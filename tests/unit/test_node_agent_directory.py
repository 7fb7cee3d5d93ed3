"""The node's copy of the directory."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.agent import cdb
from mailinfra.node.agent import directory as module
from mailinfra.node.agent.directory import Directory, accounts, lookups, members, routes
from mailinfra.node.agent.node import Node
from tests.node_helpers import NODES, MemoryBucket, agent_node

STORE, US = f"store-1.{NODES}", "all-1.us-east-1.nodes.example.test"
HASH = "{ARGON2ID}$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"


def user(name: str, zone: str = "eu", host: str = STORE) -> dict[str, Any]:
    address = f"{name}@example.test"
    return {
        "address": address,
        "kind": "user",
        "user": address,
        "home": "x",
        "zone": zone,
        "mailbox_host": host,
    }


def followed(name: str, replica: str, **changes: Any) -> dict[str, Any]:
    return {**user(name), "replica": replica, **changes}


def alias(name: str, *targets: str) -> dict[str, Any]:
    return {
        "address": f"{name}@example.test",
        "kind": "alias",
        "targets": [f"{item}@example.test" for item in targets],
    }


def account(name: str, **changes: Any) -> dict[str, Any]:
    address = f"{name}@example.test"
    known = {"user": address, "password": HASH, "senders": [address], "quota_bytes": 0, "enabled": True}
    return {**known, **changes}


def lines(*items: dict[str, Any]) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


ROUTES = (
    user("anna"),
    user("carl", host=f"store-2.{NODES}"),
    user("bob", "us", US),
    alias("info", "anna"),
    alias("all", "everyone-us", "anna"),
    alias("everyone-us", "bob"),
    {**user("anna"), "address": "a.nna@example.test"},
)
ACCOUNTS = (
    account("anna", quota_bytes=1000),
    account("carl", senders=["carl@example.test", "info@example.test"]),
)


def made(folder: Path, *roles: str, hostname: str = "", strict: bool = True) -> dict[str, Any]:
    node = agent_node(folder, roles)
    node = Node(**{**vars(node), "hostname": hostname or node.hostname, "strict": strict})
    return dict(lookups(node, routes(lines(*ROUTES)), accounts(lines(*ACCOUNTS))))


def table(data: bytes) -> dict[str, str | None]:
    names = ("anna", "carl", "bob", "info", "all", "everyone-us", "a.nna", "nobody")
    found = {name: cdb.get(data, f"{name}@example.test") for name in names}
    return {name: value for name, value in found.items() if value is not None}


def test_postfix_learns_who_is_where(tmp_path: Path) -> None:
    files = made(tmp_path, "mx")
    assert set(files) == {"mailboxes.cdb", "aliases.cdb", "transport.cdb", "away.cdb"}
    assert table(files["mailboxes.cdb"]) == dict.fromkeys(("anna", "carl", "bob"), "OK")
    assert table(files["aliases.cdb"]) == {
        "info": "anna@example.test",
        "all": "everyone-us@example.test, anna@example.test",
        "everyone-us": "bob@example.test",
        "a.nna": "anna@example.test",
    }
    assert table(files["transport.cdb"]) == {
        "anna": f"home:[{STORE}]:2525",
        "carl": f"home:[store-2.{NODES}]:2525",
        "bob": f"home:[{US}]:2525",
    }


def test_only_what_must_not_be_written_here_passes_through(tmp_path: Path) -> None:
    # An address with a mailbox in this zone may be written here.
    assert table(made(tmp_path, "mx")["away.cdb"]) == {"bob": US, "everyone-us": US}
    assert table(made(tmp_path, "mx", strict=False)["away.cdb"]) == {}


def test_a_mailbox_node_takes_its_own(tmp_path: Path) -> None:
    files = made(tmp_path, "mailbox", hostname=STORE)
    moved = "451 4.3.0 This mailbox lives on another server now"
    own = dict.fromkeys(("anna", "info", "all", "a.nna"), "OK")
    assert table(files["here.cdb"]) == {**own, **dict.fromkeys(("carl", "bob", "everyone-us"), moved)}
    assert table(files["transport.cdb"])["anna"] == "lmtp:unix:private/dovecot-lmtp"
    assert files["users"] == b"anna@example.test:::::::userdb_quota_rule=*:bytes=1000\n"
    assert "auth-smtp" not in files


def test_a_mailbox_node_passes_on_who_lives_elsewhere_in_its_zone(tmp_path: Path) -> None:
    for service, port in (("imap", 993), ("pop3", 995)):
        files = made(tmp_path, "mailbox", hostname=STORE)
        assert files[f"auth-{service}"].decode().splitlines() == [
            f"anna@example.test:{HASH}::::::",
            f"carl@example.test:{HASH}::::::proxy=y host=store-2.{NODES} port={port} ssl=yes",
        ]


@pytest.mark.parametrize("roles", [("mailbox",), ("mailbox", "imap")])
def test_nobody_gets_into_a_mailbox_without_a_password(tmp_path: Path, roles: tuple[str, ...]) -> None:
    node = Node(**{**vars(agent_node(tmp_path, roles)), "hostname": STORE})
    strayed = lines(user("bob", "us", STORE))
    for known in (b"", lines(account("bob", enabled=False)), lines(account("bob"))):
        assert b"nopassword" not in dict(lookups(node, routes(strayed), accounts(known)))["auth-imap"]


def test_proxies_ask_for_own_passwords_and_pass_others_on(tmp_path: Path) -> None:
    files = made(tmp_path, "imap")
    assert files["auth-imap"].decode().splitlines() == [
        f"anna@example.test:{HASH}::::::proxy=y host={STORE} port=993 ssl=yes",
        f"carl@example.test:{HASH}::::::proxy=y host=store-2.{NODES} port=993 ssl=yes",
        f"bob@example.test:::::::nopassword=y proxy=y host={US} port=993 ssl=yes",
    ]
    assert "auth-pop3" not in files
    assert " port=995 " in made(tmp_path, "pop3")["auth-pop3"].decode()


def test_submission_knows_own_users_only(tmp_path: Path) -> None:
    files = made(tmp_path, "submission")
    assert files["auth-smtp"].decode() == f"anna@example.test:{HASH}::::::\ncarl@example.test:{HASH}::::::\n"
    assert table(files["senders.cdb"]) == {
        "anna": "anna@example.test",
        "carl": "carl@example.test",
        "info": "carl@example.test",
    }


def test_a_disabled_user_gets_mail_and_cannot_log_in(tmp_path: Path) -> None:
    node = agent_node(tmp_path, ("mailbox", "submission", "imap"))
    node = Node(**{**vars(node), "hostname": STORE})
    known = accounts(lines(account("anna", enabled=False)))
    files = dict(lookups(node, routes(lines(user("anna"))), known))
    assert files["users"] == b"anna@example.test:::::::\n"
    assert (files["auth-imap"], files["auth-smtp"]) == (b"", b"")
    assert cdb.get(files["senders.cdb"], "anna@example.test") is None
    assert cdb.get(files["here.cdb"], "anna@example.test") == "OK"


WRONG_ROUTES = {
    "not JSON": b"{",
    "not an object": b"[]\n",
    "empty line": lines(user("anna")) + b"\n",
    "upper case": lines(user("Anna")),
    "two at signs": lines(user("a@b")),
    "slash": lines(user("../../etc/passwd")),
    "colon": lines(user("a:b")),
    "space": lines(user("a b")),
    "line feed": lines(user("a\nb")),
    "leading dot": lines(user(".a")),
    "no domain": lines({**user("a"), "address": "anna"}),
    "number": lines({**user("a"), "address": 7}),
    "kind": lines({**user("a"), "kind": "list"}),
    "host": lines({**user("a"), "mailbox_host": "store-1 proxy=n"}),
    "no host": lines({**user("a"), "mailbox_host": None}),
    "zone": lines({**user("a"), "zone": "EU"}),
    "twice": lines(user("anna"), user("anna")),
    "no targets": lines(alias("a")),
    "unknown target": lines(alias("a", "b")),
    "target outside": lines({**alias("a", "b"), "targets": ["x@outside.test"]}),
    "itself": lines(alias("a", "a")),
    "in a circle": lines(alias("a", "b"), alias("b", "c"), alias("c", "a")),
}


@pytest.mark.parametrize("case", WRONG_ROUTES)
def test_wrong_routes_are_refused_with_the_line(case: str) -> None:
    with pytest.raises(ValueError, match=r"^routes\.jsonl(:\d+)?: "):
        routes(WRONG_ROUTES[case])


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "plain"},
        {"password": "{ARGON2ID}a:b"},
        {"password": "{ARGON2ID}a\nroot:x"},
        {"password": None},
        {"senders": []},
        {"senders": ["*"]},
        {"quota_bytes": -1},
        {"quota_bytes": "1"},
        {"enabled": "yes"},
        {"user": "anna"},
    ],
)
def test_wrong_accounts_are_refused_without_showing_hashes(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^accounts\.jsonl:2: ") as caught:
        accounts(lines(account("carl"), account("anna", **changes)))
    assert "argon2id" not in str(caught.value)


NAMES = st.sampled_from([f"n{number}" for number in range(8)])


@given(st.dictionaries(NAMES, st.one_of(st.none(), st.lists(NAMES, min_size=1, max_size=4)), min_size=1))
def test_any_tangle_of_aliases_is_resolved_or_refused(tangle: dict[str, list[str] | None]) -> None:
    text = lines(
        *(user(name) if targets is None else alias(name, *targets) for name, targets in tangle.items())
    )
    try:
        found = routes(text)
    except ValueError:
        return
    for address in found:
        boxes = members(found, address)
        assert boxes
        assert all(not box.targets for box in boxes)


@given(st.binary(max_size=200))
def test_rubbish_never_gets_through(text: bytes) -> None:
    for read in (routes, accounts):
        try:
            found = read(text)
        except ValueError:
            continue
        assert not found


class Copy:
    """A bucket and a node's copy of what is in it."""

    def __init__(self, folder: Path, *roles: str) -> None:
        self.bucket, self.node = MemoryBucket(), agent_node(folder, roles)
        self.directory = Directory(self.node, self.bucket)
        self.current = folder / "directory" / "current"
        self.publish(*ROUTES)

    def publish(self, *items: dict[str, Any]) -> None:
        self.bucket.put("directory/accounts.jsonl", lines(*ACCOUNTS))
        self.bucket.put("directory/routes.jsonl", lines(*items))

    def mailboxes(self) -> dict[str, str | None]:
        return table((self.current / "mailboxes.cdb").read_bytes())


def test_follows_the_bucket(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "mx", "imap")
    copy.directory.step()
    first = (copy.current / "mailboxes.cdb").open("rb")
    assert set(copy.mailboxes()) == {"anna", "carl", "bob"}
    copy.publish(user("anna"))
    copy.directory.step()
    assert set(copy.mailboxes()) == {"anna"}
    # Postfix sees that the file it holds open is gone (dict_changed: no links left).
    import os

    assert os.fstat(first.fileno()).st_nlink == 0
    first.close()
    assert len(list((tmp_path / "directory").iterdir())) == 2


def test_nothing_new_nothing_written(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "mx", "imap")
    copy.directory.step()
    target = copy.current.resolve()
    (copy.node.tls / "changed").unlink()
    copy.directory.step()
    Directory(copy.node, copy.bucket).step()
    assert copy.current.resolve() == target
    assert not (copy.node.tls / "changed").exists()


@pytest.mark.parametrize("rubbish", [b"rubbish", b"", lines(alias("a", "b"))])
def test_the_last_good_copy_stays(tmp_path: Path, rubbish: bytes) -> None:
    copy = Copy(tmp_path, "mx", "imap")
    copy.directory.step()
    copy.bucket.put("directory/routes.jsonl", rubbish)
    for directory in (copy.directory, Directory(copy.node, copy.bucket)):
        with pytest.raises(ValueError, match=r"routes\.jsonl"):
            directory.step()
    assert set(copy.mailboxes()) == {"anna", "carl", "bob"}
    copy.publish(user("anna"))
    copy.directory.step()
    assert set(copy.mailboxes()) == {"anna"}


def test_a_crash_anywhere_leaves_a_whole_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy(tmp_path, "mx", "imap", "submission")
    copy.directory.step()
    copy.publish(user("anna"))
    real, left = module.write, 0

    def write(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise OSError("power")
        left -= 1
        real(*arguments)

    monkeypatch.setattr(module, "write", write)
    for survive in range(12):
        left = survive
        try:
            Directory(copy.node, copy.bucket).step()
        except OSError:
            assert set(copy.mailboxes()) == {"anna", "carl", "bob"}
            assert (copy.current / "auth-smtp").read_bytes()
        else:
            break
    assert set(copy.mailboxes()) == {"anna"}


def test_a_node_that_asks_for_no_password_holds_none(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "mx", "egress")
    copy.directory.step()
    assert not any(b"ARGON2" in path.read_bytes() for path in copy.current.iterdir())


def test_hashes_are_for_the_group_only(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "submission")
    copy.directory.step()
    for path in copy.current.iterdir():
        assert path.stat().st_mode & 0o777 == (0o644 if path.suffix == ".cdb" else 0o640)


def test_no_directory_yet(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "mx")
    copy.bucket.objects.clear()
    with pytest.raises(KeyError):
        copy.directory.step()
    assert not copy.current.exists()


WEST = "store-1.eu-west-1.nodes.example.test"
FOLLOWED = (
    followed("anna", WEST),
    followed("carl", WEST),
    user("dora"),
    followed("emil", STORE, mailbox_host=WEST),
    followed("bob", WEST, zone="us", mailbox_host=US),
)


def replicated(folder: Path, hostname: str) -> dict[str, bytes]:
    node = Node(**{**vars(agent_node(folder, ("mailbox",))), "hostname": hostname})
    known = accounts(lines(account("anna", quota_bytes=1000), account("carl"), account("emil")))
    return dict(lookups(node, routes(lines(*FOLLOWED)), known))


def test_a_home_and_a_replica_learn_of_each_other(tmp_path: Path) -> None:
    at = {name: f"{name}@example.test" for name in ("anna", "bob", "carl", "dora", "emil")}
    home = json.loads(replicated(tmp_path, STORE)["replicas.json"])
    assert home == {"followed": {at["anna"]: WEST, at["carl"]: WEST}, "follows": {at["emil"]: WEST}}
    copy = json.loads(replicated(tmp_path, WEST)["replicas.json"])
    # bob's mail is of another zone, so it may not lie here, whatever the directory says.
    assert copy == {"followed": {at["emil"]: STORE}, "follows": {at["anna"]: STORE, at["carl"]: STORE}}
    # It is the home that looks for the replica, and it is the replica's zone that is looked at there.
    assert json.loads(replicated(tmp_path, US)["replicas.json"]) == {
        "followed": {at["bob"]: WEST},
        "follows": {},
    }


def test_a_replica_has_the_mailbox_and_passes_its_mail_and_its_logins_on(tmp_path: Path) -> None:
    files = replicated(tmp_path, WEST)
    users = files["users"].decode().splitlines()
    assert users == [
        "anna@example.test:::::::userdb_quota_rule=*:bytes=1000",
        "carl@example.test:::::::",
        "emil@example.test:::::::",
    ]
    assert cdb.get(files["here.cdb"], "emil@example.test") == "OK"
    for name in ("anna", "carl", "bob"):
        assert str(cdb.get(files["here.cdb"], f"{name}@example.test")).startswith("451 ")
    assert cdb.get(files["transport.cdb"], "anna@example.test") == f"home:[{STORE}]:2525"
    logins = [line.rsplit(":", 1) for line in files["auth-imap"].decode().splitlines()]
    assert {login.split("@")[0]: forward for login, forward in logins} == {
        "anna": f"proxy=y host={STORE} port=993 ssl=yes",
        "carl": f"proxy=y host={STORE} port=993 ssl=yes",
        "emil": "",
    }


@pytest.mark.parametrize("replica", ["", None, 1, "Store-1", STORE, "a b", "-x.test", [WEST]])
def test_a_wrong_replica_is_refused(replica: Any) -> None:
    with pytest.raises(ValueError, match=r"routes\.jsonl:1: replica is"):
        routes(lines(followed("anna", replica)))
