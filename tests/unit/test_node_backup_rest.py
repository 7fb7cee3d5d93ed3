"""restic's REST protocol over a vault in memory: what a client may do, and above all what it may not."""

import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailinfra.node.backup.rest import V2, Backend
from tests.backup_helpers import MemoryArchive

PREFIX = "eu-central-1/store-1/20261123T100000Z"


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Client:
    """A client that knows the password."""

    def __init__(self, backend: Backend, login: str | None = None) -> None:
        text = base64.b64encode((login or backend.login).encode()).decode()
        self.headers = {"Authorization": f"Basic {text}"}
        port = int(backend.url.rpartition(":")[2].strip("/"))
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self, method: str, path: str, data: bytes | None = None, **more: str) -> tuple[int, bytes]:
        """The status and body of an answer."""
        self.connection.request(method, path, data, {**self.headers, **more})
        answer = self.connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            self.connection.close()


@pytest.fixture
def archive() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture
def backend(archive: MemoryArchive) -> Iterator[Backend]:
    with Backend(archive, PREFIX, writable=True) as made:
        yield made


@pytest.fixture
def client(backend: Backend) -> Client:
    return Client(backend)


def test_what_is_written_is_read_in_whole_and_in_part(client: Client, archive: MemoryArchive) -> None:
    data = b"0123456789"
    path = f"/data/{name_of(data)}"
    assert client.ask("POST", "/?create=true") == (200, b"")
    assert client.ask("POST", path, data)[0] == 200
    assert archive.objects == {PREFIX + path: data}
    assert client.ask("GET", path) == (200, data)
    assert client.ask("GET", path, Range="bytes=2-4") == (206, b"234")
    assert client.ask("GET", path, Range="bytes=7-") == (206, b"789")
    assert client.ask("HEAD", path)[0] == 200
    assert json.loads(client.ask("GET", "/data/", Accept=V2)[1]) == [{"name": name_of(data), "size": 10}]
    assert json.loads(client.ask("GET", "/data/")[1]) == [name_of(data)]


@pytest.mark.parametrize("path", ["/config", "/data/" + "0" * 64, "/keys/" + "1" * 64])
def test_what_is_not_there_is_said(client: Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert client.ask(method, path)[0] == 404


def test_nothing_is_changed_or_deleted(client: Client, archive: MemoryArchive) -> None:
    data = b"one"
    path = f"/data/{name_of(data)}"
    assert client.ask("POST", "/config", b"config")[0] == 200
    assert client.ask("POST", path, data)[0] == 200
    before = dict(archive.objects)
    assert client.ask("POST", "/config", b"another")[0] == 403
    assert client.ask("DELETE", path)[0] == 403
    assert client.ask("DELETE", "/config")[0] == 403
    # The same again: the answer to the first try was lost.
    assert client.ask("POST", path, data)[0] == 200
    assert archive.objects == before


def test_what_is_not_what_its_name_says_is_not_taken(client: Client, archive: MemoryArchive) -> None:
    assert client.ask("POST", f"/data/{name_of(b'one')}", b"two")[0] == 400
    assert archive.objects == {}


def test_locks_never_reach_the_bucket(client: Client, archive: MemoryArchive) -> None:
    path = f"/locks/{name_of(b'lock')}"
    assert client.ask("POST", path, b"lock")[0] == 200
    assert client.ask("GET", path) == (200, b"lock")
    assert json.loads(client.ask("GET", "/locks/", Accept=V2)[1]) == [{"name": name_of(b"lock"), "size": 4}]
    assert client.ask("DELETE", path)[0] == 200
    assert client.ask("DELETE", path)[0] == 404
    assert archive.calls == []


def test_a_reader_writes_nothing(archive: MemoryArchive) -> None:
    with Backend(archive, PREFIX, writable=False) as backend:
        assert Client(backend).ask("POST", f"/data/{name_of(b'x')}", b"x")[0] == 403
    assert archive.objects == {}


def test_nobody_else_on_the_node_comes_in(backend: Backend, archive: MemoryArchive) -> None:
    for login in ("restic:", "restic:wrong", "", "x"):
        client = Client(backend)
        client.headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        assert client.ask("GET", "/config")[0] == 401
    client = Client(backend)
    client.headers = {}
    assert client.ask("GET", "/data/")[0] == 401
    assert archive.calls == []


@pytest.mark.parametrize(("status", "hopeless"), [(403, True), (401, True), (503, False), (0, False)])
def test_a_refusal_is_hopeless_at_once_and_a_failure_is_not(
    client: Client, backend: Backend, archive: MemoryArchive, status: int, hopeless: bool
) -> None:
    archive.status = status
    assert client.ask("GET", "/config")[0] == 502
    assert backend.trouble.hopeless is hopeless
    assert "refused for the test" in backend.trouble.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
)
def test_no_path_leads_out_of_the_repository(
    backend: Backend, archive: MemoryArchive, method: str, path: str
) -> None:
    archive.objects = {"eu-central-1/store-2/secret": b"other", f"{PREFIX}/password.wrapped": b"wrapped"}
    client = Client(backend)
    for way in (f"/{path}", f"/data/../{path}", "/password.wrapped", "/../store-2/secret", "/keys/%2e%2e/x"):
        status, body = client.ask(method, way, b"x" if method == "POST" else None)
        assert body in (b"", b"[]")
        # `/` alone, and listings of the repository's own folders.
        assert status in (404, 403) or re.split("[?#]", way)[0].strip("/") in {
            "",
            "data",
            "keys",
            "locks",
            "snapshots",
            "index",
        }
    assert set(archive.objects) == {"eu-central-1/store-2/secret", f"{PREFIX}/password.wrapped"}
    assert not any("store-2" in call or "password" in call for call in archive.calls)
