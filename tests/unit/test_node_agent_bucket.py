"""The control bucket: S3 against moto, Cloud Storage against a small server that keeps to its documentation."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto import mock_aws

from mailinfra.node.agent import google
from mailinfra.node.agent.bucket import (
    S3,
    Archive,
    Bucket,
    BucketError,
    ExistsError,
    Gcs,
    GcsArchive,
    S3Archive,
    control,
)
from tests.node_helpers import agent_node


class Storage(BaseHTTPRequestHandler):
    """Cloud Storage's JSON API and the metadata server, as far as the agent uses them. Two names a page."""

    objects: dict[str, tuple[bytes, int]]
    broken = False
    tokens = 0

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        cls = type(self)
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/token"):
            assert self.headers["Metadata-Flavor"] == "Google"
            cls.tokens += 1
            return self.answer(200, json.dumps({"access_token": "T", "expires_in": 3600}).encode())
        assert self.headers["Authorization"] == "Bearer T"
        if cls.broken:
            return self.answer(503, b"backend error")
        match = re.fullmatch(r"/storage/v1/b/bucket/o(?:/([^/]+))?", url.path)
        assert match
        if match[1] is None:
            names = sorted(name for name in cls.objects if name.startswith(query["prefix"]))
            start = int(query.get("pageToken", 0))
            part = names[start : start + 2]
            items = [
                {
                    "name": name,
                    "generation": str(cls.objects[name][1]),
                    "size": str(len(cls.objects[name][0])),
                }
                for name in part
            ]
            page: dict[str, Any] = {"items": items} if items else {}
            if "delimiter" in query:
                length = len(query["prefix"])
                rests = [name[length:] for name in part if "/" in name[length:]]
                page = {"prefixes": sorted({query["prefix"] + rest.split("/")[0] + "/" for rest in rests})}
            page |= {"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}
            return self.answer(200, json.dumps(page).encode())
        if unquote(match[1]) not in cls.objects:
            return self.answer(403 if "certs" in match[1] else 404, b"none")
        data, generation = cls.objects[unquote(match[1])]
        if query.get("ifGenerationNotMatch") == str(generation):
            return self.answer(304)
        if "alt" not in query:
            return self.answer(200, json.dumps({"size": str(len(data))}).encode())
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            return self.answer(206, data[int(span[1]) : int(span[2]) + 1 if span[2] else None])
        return self.answer(200, data, x_goog_generation=str(generation))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        name = parse_qs(url.query)["name"][0]
        assert url.path == "/upload/storage/v1/b/bucket/o"
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if parse_qs(url.query).get("ifGenerationMatch") == ["0"] and name in type(self).objects:
            return self.answer(412, b"conditionNotMet")
        type(self).objects[name] = data, type(self).objects.get(name, (b"", 0))[1] + 1
        return self.answer(200, b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Storage]]:
    handler = type("Fresh", (Storage,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        handler.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(google, "METADATA", f"{handler.url}/token")
        monkeypatch.setattr(google, "TOKEN", google.InstanceToken())
        yield handler
        server.shutdown()
        thread.join()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="eu-central-1")
        client.create_bucket(
            Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        yield client


@pytest.fixture(params=["s3", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return S3("bucket", "eu-central-1")
    return Gcs("bucket", request.getfixturevalue("storage").url)


def test_only_what_is_new_is_fetched(bucket: Bucket) -> None:
    with pytest.raises(KeyError, match=re.escape("trust/anchors.pem")):
        bucket.get("trust/anchors.pem")
    bucket.put("trust/anchors.pem", b"one")
    one = bucket.get("trust/anchors.pem")
    assert one
    assert one.data == b"one"
    assert bucket.get("trust/anchors.pem", one.version) is None
    bucket.put("trust/anchors.pem", b"two")
    two = bucket.get("trust/anchors.pem", one.version)
    assert two
    assert (two.data, two.version != one.version) == (b"two", True)


def test_lists_all_pages(bucket: Bucket) -> None:
    assert bucket.list("enrol/") == {}
    for number in range(5):
        bucket.put(f"enrol/edge/edge-{number}.csr", b"x")
    bucket.put("certs/edge/edge-1.pem", b"x")
    found = bucket.list("enrol/")
    assert sorted(found) == [f"enrol/edge/edge-{number}.csr" for number in range(5)]
    stored = bucket.get("enrol/edge/edge-3.csr")
    assert stored
    assert stored.version == found["enrol/edge/edge-3.csr"]


def test_one_token_serves_many_calls(storage: type[Storage]) -> None:
    bucket = Gcs("bucket", storage.url)  # type: ignore[attr-defined]
    for _ in range(3):
        bucket.put("a", b"x")
    assert storage.tokens == 1


def test_an_object_that_one_may_not_see_counts_as_missing(storage: type[Storage]) -> None:
    with pytest.raises(KeyError):
        Gcs("bucket", storage.url).get("certs/edge/edge-1.pem")  # type: ignore[attr-defined]


def test_faults_are_told(storage: type[Storage], s3: Any) -> None:
    storage.broken = True
    with pytest.raises(BucketError, match="503 backend error"):
        Gcs("bucket", storage.url).get("a")  # type: ignore[attr-defined]
    storage.broken = False
    with pytest.raises(BucketError, match=r"NoSuchBucket"):
        S3("other", "eu-central-1").put("a", b"x")
    with pytest.raises(BucketError, match=r"127\.0\.0\.1:9"):
        Gcs("bucket", "http://127.0.0.1:9").get("a")


def test_a_nodes_bucket_is_its_clouds(tmp_path: Any, s3: Any) -> None:
    node = agent_node(tmp_path)
    assert isinstance(control(node), S3)
    from dataclasses import replace

    found = control(replace(node, cloud="gcp", endpoints={"storage": "https://storage.test"}))
    assert isinstance(found, Gcs)
    assert found.base == "https://storage.test"


@pytest.fixture(params=["s3", "gcs"])
def archive(request: pytest.FixtureRequest) -> Archive:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return S3Archive("bucket", "eu-central-1")
    return GcsArchive("bucket", request.getfixturevalue("storage").url)


def test_an_archive_is_only_added_to(archive: Archive) -> None:
    archive.create("r/store-1/one/data/a", b"0123456789")
    with pytest.raises(ExistsError):
        archive.create("r/store-1/one/data/a", b"another")
    assert archive.read("r/store-1/one/data/a") == b"0123456789"
    assert archive.read("r/store-1/one/data/a", 2, 4) == b"234"
    assert archive.read("r/store-1/one/data/a", 7) == b"789"
    assert archive.size("r/store-1/one/data/a") == 10
    for name in ("r/store-1/two/config", "r/store-2/one/config", "q/x"):
        archive.create(name, b"x")
    assert archive.sizes("r/store-1/") == {"r/store-1/one/data/a": 10, "r/store-1/two/config": 1}
    assert set(archive.folders("r/")) == {"store-1", "store-2"}
    assert set(archive.folders("r/store-1/")) == {"one", "two"}


def test_what_is_not_in_an_archive_is_said(archive: Archive) -> None:
    for ask in (archive.read, archive.size):
        with pytest.raises(KeyError):
            ask("nothing")


def test_a_refusal_is_not_taken_for_an_object_that_is_not_there(storage: type[Storage]) -> None:
    with pytest.raises(BucketError) as refused:
        GcsArchive("bucket", storage.url).read("certs/x")
    assert refused.value.status == 403
