"""Publishing: into S3 (moto) and Cloud Storage (the sandbox's), whole, once, and never over somebody else's."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from mailinfra import names, publish
from mailinfra.directory import Directory, User
from mailinfra.fleet import Fleet
from mailinfra.publish import GcsStore, PublishError, S3Store, Store, Stored
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import Server, listen_on_loopback
from tests.fleets import fleet

HASH = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"


def _user(address: str, country: str, **more: Any) -> User:
    return User.model_validate(
        {"address": address, "attributes": {"country": country}, "password_hash": HASH, **more}
    )


ANNA, BOB = _user("anna@example.test", "DE"), _user("bob@example.test", "US")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="control")
        yield client


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The endpoint and a token of a Cloud Storage with a bucket `control`."""
    apis = GoogleApis(tmp_path / "gcp")
    server = Server(listen_on_loopback(), apis)
    server.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    token = apis.identity.operator_token
    request = urllib.request.Request(  # noqa: S310
        f"{endpoint}/storage/v1/b?project=some-project",
        json.dumps({"name": "control", "location": "EUROPE-WEST3"}).encode(),
        {"Authorization": f"Bearer {token}"},
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    yield endpoint, token
    server.stop()
    apis.close()


@pytest.fixture(params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        return S3Store("control", "us-east-1", client=request.getfixturevalue("s3"))
    endpoint, token = request.getfixturevalue("gcs")
    return GcsStore("control", endpoint, lambda: token)


def test_a_store_keeps_what_it_is_given(store: Store) -> None:
    assert store.get("directory/routes.jsonl") is None
    store.put("directory/routes.jsonl", b"one", None)
    first = store.get("directory/routes.jsonl")
    assert first is not None
    assert first.body == b"one"
    store.put("directory/routes.jsonl", b"two", first.version)
    second = store.get("directory/routes.jsonl")
    assert second is not None
    assert second.body == b"two"
    assert second.version != first.version


def test_a_store_refuses_to_overwrite_what_it_has_not_seen(store: Store) -> None:
    store.put("a", b"one", None)
    with pytest.raises(PublishError, match="somebody else published meanwhile"):
        store.put("a", b"two", None)
    old = store.get("a")
    assert old is not None
    store.put("a", b"two", old.version)
    with pytest.raises(PublishError, match="somebody else published meanwhile"):
        store.put("a", b"three", old.version)
    now = store.get("a")
    assert now is not None
    assert now.body == b"two"


def test_a_bucket_that_is_not_there(s3: Any, gcs: tuple[str, str]) -> None:
    with pytest.raises(PublishError, match="s3://none/a"):
        S3Store("none", "us-east-1", client=s3).get("a")
    with pytest.raises(PublishError, match="s3://none/a"):
        S3Store("none", "us-east-1", client=s3).put("a", b"", None)
    with pytest.raises(PublishError, match="gs://none/a"):
        GcsStore("none", gcs[0], lambda: gcs[1]).put("a", b"", None)
    with pytest.raises(PublishError, match="401"):
        GcsStore("control", gcs[0], lambda: "wrong").get("a")


def test_a_cloud_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PublishError, match="gs://control/a"):
        GcsStore("control", "http://127.0.0.1:9", lambda: "t").get("a")
    with pytest.raises(PublishError, match="s3://control/a"):
        S3Store("control", "us-east-1", "http://127.0.0.1:9").get("a")
    with pytest.raises(PublishError, match="s3://control/a"):
        S3Store("control", "us-east-1", "http://127.0.0.1:9").put("a", b"", None)


class Memory:
    """A store that remembers the order of writes, and can fail."""

    log: list[tuple[str, str]]

    def __init__(self, region: str, log: list[tuple[str, str]]) -> None:
        self.region, self.log = region, log
        self.objects: dict[str, Stored] = {}
        self.fails = False

    def get(self, path: str) -> Stored | None:
        return self.objects.get(path)

    def put(self, path: str, body: bytes, version: str | None) -> None:
        if self.fails:
            raise PublishError("the bucket is full")
        before = self.objects.get(path)
        assert version == (before.version if before else None)
        self.objects[path] = Stored(body, str(len(self.log)), len(self.log))
        self.log.append((self.region, path))


Stores = dict[str, Memory]


@pytest.fixture
def stores() -> Stores:
    log: list[tuple[str, str]] = []
    return {region.region: Memory(region.region, log) for region in fleet().regions}


def _publish(stores: Stores, *users: User, one: Fleet | None = None, **options: Any) -> publish.Report:
    return publish.publish(one or fleet(), Directory(users), stores, **options)


def test_everything_is_published_accounts_first(stores: Stores) -> None:
    report = _publish(stores, ANNA, BOB)
    log = stores["us-east-1"].log
    assert len(log) == 8
    assert {path for _, path in log[:4]} == {names.ACCOUNTS_KEY}
    assert {path for _, path in log[4:]} == {names.ROUTES_KEY}
    assert all(change.written for change in report.changes)
    routes = next(change for change in report.changes if change.path == names.ROUTES_KEY)
    assert (routes.added, routes.removed, routes.changed) == (2, 0, 0)
    assert any("postmaster@example.test" in note for note in report.notes)


def test_publishing_again_writes_nothing(stores: Stores) -> None:
    _publish(stores, ANNA, BOB)
    stores["us-east-1"].log.clear()
    report = _publish(stores, BOB, ANNA)
    assert stores["us-east-1"].log == []
    assert not any(change.written for change in report.changes)


def test_only_what_changed_is_written(stores: Stores) -> None:
    _publish(stores, ANNA, BOB)
    stores["us-east-1"].log.clear()
    quota = _user("anna@example.test", "DE", quota_bytes=5)
    report = _publish(stores, quota, BOB)
    assert set(stores["us-east-1"].log) == {(r, names.ACCOUNTS_KEY) for r in ("eu-central-1", "europe-west3")}
    assert {(c.added, c.removed, c.changed) for c in report.changes if c.written} == {(0, 0, 1)}


def test_a_user_who_leaves_is_reported(stores: Stores) -> None:
    _publish(stores, ANNA, BOB)
    report = _publish(stores, ANNA)
    assert {c.removed for c in report.changes if c.path == names.ROUTES_KEY} == {1}


def test_a_move_is_refused_until_it_is_allowed(stores: Stores) -> None:
    _publish(stores, ANNA, BOB)
    stores["us-east-1"].log.clear()
    moved = _user("anna@example.test", "US")
    with pytest.raises(
        PublishError, match=r"1 mailboxes would move[^$]*anna@example.test: from store-1\.eu-central-1"
    ):
        _publish(stores, moved, BOB)
    assert stores["us-east-1"].log == []
    report = _publish(stores, moved, BOB, allow_moves=True)
    assert [move.user for move in report.moves] == ["anna@example.test"]
    assert b"anna@example.test" not in stores["eu-central-1"].objects[names.ACCOUNTS_KEY].body


def test_many_moves_are_counted(stores: Stores) -> None:
    users = [_user(f"u{n}@example.test", "DE") for n in range(15)]
    _publish(stores, *users)
    with pytest.raises(PublishError, match=r"15 mailboxes would move[^$]*and 5 more"):
        _publish(stores, *(_user(user.address, "US") for user in users))


def test_an_interrupted_run_carries_on(stores: Stores) -> None:
    stores["us-east-1"].fails = True
    with pytest.raises(PublishError, match=r"the bucket is full\n\d documents were published before"):
        _publish(stores, ANNA, BOB)
    stores["us-east-1"].fails = False
    _publish(stores, ANNA, BOB)
    assert {len(store.objects) for store in stores.values()} == {2}


def test_a_new_region_gets_its_copy(stores: Stores) -> None:
    from tests.fleets import AWS_REGION

    _publish(stores, ANNA, BOB)
    log = stores["us-east-1"].log
    log.clear()
    stores["eu-west-1"] = Memory("eu-west-1", log)
    _publish(stores, ANNA, BOB, one=fleet(regions__4=AWS_REGION))
    assert set(log) == {("eu-west-1", names.ACCOUNTS_KEY), ("eu-west-1", names.ROUTES_KEY)}


def test_a_bucket_with_something_else_is_left_alone(stores: Stores) -> None:
    stores["us-east-1"].objects[names.ROUTES_KEY] = Stored(b"not ours\n", "1", 1.0)
    with pytest.raises(PublishError, match=r"us-east-1: directory/routes\.jsonl"):
        _publish(stores, ANNA)
    assert stores["us-east-1"].log == []


def test_a_file_is_published(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text(json.dumps({"address": "a@example.test", "password_from": "env:A"}))
    publish.publish_file(fleet(), path, stores, environment={"A": "secret"})
    stored = stores["eu-central-1"].objects[names.ACCOUNTS_KEY].body
    assert b"{ARGON2ID}" in stored
    assert b"secret" not in stored
    stores["us-east-1"].log.clear()
    publish.publish_file(fleet(), path, stores, environment={"A": "secret"})
    assert stores["us-east-1"].log == []


def test_google_tokens_come_from_gcloud_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_library(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(publish.importlib, "import_module", no_library)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PublishError, match="install google-auth or gcloud"):
        publish.google_token()
    tool = tmp_path / "gcloud"
    tool.write_text("#!/bin/sh\necho a-token\n")
    tool.chmod(0o755)
    assert publish.google_token() == "a-token"
    tool.write_text("#!/bin/sh\necho not logged in >&2\nexit 1\n")
    with pytest.raises(PublishError, match="not logged in"):
        publish.google_token()
