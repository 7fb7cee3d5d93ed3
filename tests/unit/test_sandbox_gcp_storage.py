import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mailinfra.sandbox.gcp import storage
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.gcp.identity import storage_agent
from mailinfra.sandbox.gcp.store import now
from tests.gcp_helpers import PROJECT, Client, account, binding, crypto_key, grant, operator

_numbers = count(1)
UNIFORM = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApis]:
    made = GoogleApis(tmp_path_factory.mktemp("gcp"))
    yield made
    made.close()


def bucket(apis: GoogleApis, **fields: Any) -> str:
    name = f"bucket-{next(_numbers)}"
    operator(apis)(
        "POST", f"/storage/v1/b?project={PROJECT}", {"name": name, "location": "europe-west3", **fields}
    )
    return name


def put(client: Client, where: str, name: str, content: bytes = b"content", **query: str) -> dict[str, Any]:
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return client(
        "POST", f"/upload/storage/v1/b/{where}/o?uploadType=media&name={quote(name)}{more}", content
    )


def path(where: str, name: str, query: str = "") -> str:
    return f"/storage/v1/b/{where}/o/{quote(name, safe='')}{query}"


def policy(apis: GoogleApis, where: str, *bindings: dict[str, Any]) -> None:
    operator(apis)("PUT", f"/storage/v1/b/{where}/iam", {"bindings": list(bindings)})


@pytest.mark.parametrize("name", ["plain.txt", "enrol/mx/mx-1.csr", "with space/ü:é?#%.bin", "a" * 1024])
def test_an_object_comes_back_under_any_name(apis: GoogleApis, name: str) -> None:
    client, where, content = operator(apis), bucket(apis), bytes(range(256)) * 3
    made = put(client, where, name, content)
    assert (made["name"], made["size"]) == (name, "768")
    answer = client.send("GET", path(where, name, "?alt=media"))
    assert answer.body == content
    assert answer.headers["x-goog-generation"] == made["generation"]
    assert client.send("GET", f"/download{path(where, name)}?alt=media").body == content


@pytest.mark.parametrize("name", ["", "a" * 1025, "line\nbreak"])
def test_a_name_that_cannot_be_is_refused(apis: GoogleApis, name: str) -> None:
    with pytest.raises(ApiError, match="Invalid object name"):
        put(operator(apis), bucket(apis), name)


def test_a_multipart_upload_keeps_the_octets_and_the_metadata(apis: GoogleApis) -> None:
    client, where, content = operator(apis), bucket(apis), b"\r\n--a\n\r\nb\x00\xff\r\n"
    body = (
        b'--b0\r\nContent-Type: application/json\r\n\r\n{"name": "m", "metadata": {"k": "v"}}\r\n'
        b"--b0\r\nContent-Type: text/x-mail\r\n\r\n" + content + b"\r\n--b0--\r\n"
    )
    url = f"/upload/storage/v1/b/{where}/o?uploadType=multipart"
    made = client("POST", url, body, content_type='multipart/related; boundary="b0"')
    assert (made["contentType"], made["metadata"]) == ("text/x-mail", {"k": "v"})
    assert client.send("GET", path(where, "m", "?alt=media")).body == content


def test_a_resumable_upload_goes_on_where_it_stopped(apis: GoogleApis) -> None:
    client, where = operator(apis), bucket(apis)
    begun = client.send("POST", f"/upload/storage/v1/b/{where}/o?uploadType=resumable&name=big", {})
    url = begun.headers["Location"].partition("localhost")[2]
    first = client.send("PUT", url, b"01234", content_range="bytes 0-4/*")
    assert (first.status, first.headers["Range"]) == (308, "bytes=0-4")
    asked = client.send("PUT", url, b"", content_range="bytes */10")
    assert (asked.status, asked.headers["Range"]) == (308, "bytes=0-4")
    assert client.send("PUT", url, b"56789", content_range="bytes 5-9/10").status == 200
    assert client.send("GET", path(where, "big", "?alt=media"), range="bytes=3-6").body == b"3456"
    assert client.send("GET", path(where, "big", "?alt=media"), range="bytes=-2").body == b"89"


def test_preconditions_let_one_of_two_writers_win(apis: GoogleApis) -> None:
    client, where = operator(apis), bucket(apis)
    made = put(client, where, "lock", ifGenerationMatch="0")
    with pytest.raises(ApiError) as raised:
        put(client, where, "lock", ifGenerationMatch="0")
    assert raised.value.code == 412
    second = put(client, where, "lock", b"next", ifGenerationMatch=made["generation"])
    assert client.code("DELETE", path(where, "lock", f"?ifGenerationMatch={made['generation']}")) == 412
    assert client.code("GET", path(where, "lock", f"?ifGenerationNotMatch={second['generation']}")) == 304
    assert client.code("DELETE", path(where, "lock", f"?ifGenerationMatch={second['generation']}")) == 204


def test_listing_by_prefix_folder_and_page(apis: GoogleApis) -> None:
    client, where = operator(apis), bucket(apis)
    for name in ("a", "certs/mx/1", "certs/mx/2", "certs/imap/1", "certs.txt", "z"):
        put(client, where, name)
    url = f"/storage/v1/b/{where}/o"
    assert [i["name"] for i in client("GET", f"{url}?prefix=certs/")["items"]] == [
        "certs/imap/1", "certs/mx/1", "certs/mx/2",
    ]  # fmt: skip
    folders = client("GET", f"{url}?prefix=certs/&delimiter=/")
    assert folders["prefixes"] == ["certs/imap/", "certs/mx/"]
    assert "items" not in folders
    seen: list[str] = []
    token = ""
    while True:
        page = client("GET", f"{url}?maxResults=2&delimiter=/&pageToken={token}")
        seen += [i["name"] for i in page.get("items", ())] + page.get("prefixes", [])
        if not (token := page.get("nextPageToken", "")):
            break
    assert sorted(seen) == ["a", "certs.txt", "certs/", "z"]


def test_versions_are_kept_and_a_deleted_object_can_be_had_back(apis: GoogleApis) -> None:
    client, where = operator(apis), bucket(apis, versioning={"enabled": True})
    first, second = put(client, where, "o", b"1"), put(client, where, "o", b"2")
    assert int(second["generation"]) > int(first["generation"])
    client.send("DELETE", path(where, "o"))
    assert client.code("GET", path(where, "o")) == 404
    kept = client("GET", f"/storage/v1/b/{where}/o?versions=true")["items"]
    assert [k["generation"] for k in kept] == [first["generation"], second["generation"]]
    old = f"?alt=media&generation={first['generation']}"
    assert client.send("GET", path(where, "o", old)).body == b"1"
    assert client.code("DELETE", f"/storage/v1/b/{where}") == 409
    for version in kept:
        client.send("DELETE", path(where, "o", f"?generation={version['generation']}"))
    assert client.code("DELETE", f"/storage/v1/b/{where}") == 204


def test_without_versioning_an_overwritten_object_leaves_no_file(tmp_path: Path) -> None:
    apis = GoogleApis(tmp_path)
    try:
        client, where = operator(apis), bucket(apis)
        put(client, where, "o", b"1")
        put(client, where, "o", b"2")
        assert [f.read_bytes() for f in (tmp_path / "objects").iterdir()] == [b"2"]
    finally:
        apis.close()


def test_retention_holds_until_its_time_and_a_lock_for_good(
    apis: GoogleApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, where = operator(apis), bucket(apis, retentionPolicy={"retentionPeriod": "86400"})
    put(client, where, "backup")
    with pytest.raises(ApiError, match="retention policy") as raised:
        client.send("DELETE", path(where, "backup"))
    assert (raised.value.code, raised.value.reason) == (403, "retentionPolicyNotMet")
    with pytest.raises(ApiError, match="retention policy"):
        put(client, where, "backup", b"overwritten")
    url = f"/storage/v1/b/{where}"
    assert (
        client("PATCH", url, {"retentionPolicy": {"retentionPeriod": "3600"}})["retentionPolicy"][
            "retentionPeriod"
        ]
        == "3600"
    )
    metageneration = client("GET", url)["metageneration"]
    assert client.code("POST", f"{url}/lockRetentionPolicy?ifMetagenerationMatch=1", {}) == 412
    client("POST", f"{url}/lockRetentionPolicy?ifMetagenerationMatch={metageneration}", {})
    assert client.code("PATCH", url, {"retentionPolicy": None}) == 403
    assert client.code("PATCH", url, {"retentionPolicy": {"retentionPeriod": "60"}}) == 403
    assert client.code("PATCH", url, {"retentionPolicy": {"retentionPeriod": "7200"}}) == 200
    monkeypatch.setattr(storage, "now", lambda: now() + timedelta(hours=3))
    assert client.code("DELETE", path(where, "backup")) == 204


def test_a_hold_keeps_an_object(apis: GoogleApis) -> None:
    client, where = operator(apis), bucket(apis)
    put(client, where, "evidence")
    client("PATCH", path(where, "evidence"), {"temporaryHold": True})
    assert client.code("DELETE", path(where, "evidence")) == 403
    client("PATCH", path(where, "evidence"), {"temporaryHold": False})
    assert client.code("DELETE", path(where, "evidence")) == 204


def test_a_node_writes_under_its_own_prefix_only(apis: GoogleApis) -> None:
    where = bucket(apis, **UNIFORM)
    member, node = account(apis, "mx-node")
    own = f'resource.name.startsWith("projects/_/buckets/{where}/objects/enrol/mx/")'
    policy(apis, where, binding("roles/storage.objectUser", member, own))
    put(node, where, "enrol/mx/mx-1.csr")
    put(node, where, "enrol/mx/mx-1.csr", b"again")
    for name in ("enrol/mailbox/mailbox-1.csr", "enrol/mx", "certs/mx/mx-1.pem"):
        with pytest.raises(ApiError) as raised:
            put(node, where, name)
        assert raised.value.code == 403
    assert node.code("GET", f"/storage/v1/b/{where}/o?prefix=enrol/mx/") == 403
    policy(
        apis,
        where,
        binding(
            "roles/storage.objectViewer",
            member,
            'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("enrol/mx/")',
        ),
    )
    assert node.code("GET", f"/storage/v1/b/{where}/o?prefix=enrol/mx/") == 200
    assert node.code("GET", f"/storage/v1/b/{where}/o?prefix=enrol/") == 403


def test_who_may_not_list_does_not_learn_what_is_missing(apis: GoogleApis) -> None:
    where = bucket(apis, **UNIFORM)
    member, node = account(apis, "reading-node")
    policy(apis, where, binding("roles/storage.legacyObjectReader", member))
    assert node.code("GET", path(where, "missing")) == 403
    policy(apis, where, binding("roles/storage.objectViewer", member))
    assert node.code("GET", path(where, "missing")) == 404


def test_a_creator_does_not_overwrite(apis: GoogleApis) -> None:
    where = bucket(apis, **UNIFORM)
    member, node = account(apis, "creating-node")
    policy(apis, where, binding("roles/storage.objectCreator", member))
    put(node, where, "once")
    with pytest.raises(ApiError, match=r"storage\.objects\.delete"):
        put(node, where, "once")


def test_conditions_need_uniform_access(apis: GoogleApis) -> None:
    member, _ = account(apis, "any-node")
    with pytest.raises(ApiError, match="uniform bucket-level access"):
        policy(apis, bucket(apis), binding("roles/storage.objectViewer", member, "true"))


def test_a_bucket_with_a_key_holds_no_plain_text_and_falls_with_its_key(tmp_path: Path) -> None:
    apis = GoogleApis(tmp_path)
    try:
        client, key = operator(apis), crypto_key(apis, "data")
        encrypted = {"encryption": {"defaultKmsKeyName": key}}
        with pytest.raises(ApiError, match=storage_agent(PROJECT)) as raised:
            bucket(apis, **encrypted)
        assert raised.value.code == 403
        role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
        grant(apis, key, role, f"serviceAccount:{storage_agent(PROJECT)}")
        where = bucket(apis, **encrypted)
        made = put(client, where, "o", b"a plain secret")
        assert made["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
        for file in (f for f in tmp_path.rglob("*") if f.is_file()):
            assert b"a plain secret" not in file.read_bytes()
        assert client.send("GET", path(where, "o", "?alt=media")).body == b"a plain secret"
        client("POST", f"/v1/{key}/cryptoKeyVersions/1:destroy", {})
        assert client.code("GET", path(where, "o", "?alt=media")) == 400
    finally:
        apis.close()


def test_a_rewrite_copies(apis: GoogleApis) -> None:
    client, one, two = operator(apis), bucket(apis), bucket(apis)
    put(client, one, "a/b", b"copied")
    url = f"{path(one, 'a/b')}/rewriteTo/b/{two}/o/{quote('c/d', safe='')}"
    assert client("POST", url, {})["done"] is True
    assert client.send("GET", path(two, "c/d", "?alt=media")).body == b"copied"


def test_metadata_is_json_that_a_client_can_read(apis: GoogleApis) -> None:
    made = put(operator(apis), bucket(apis), "o")
    json.dumps(made)
    assert not {"file", "dataKey"} & set(made)


@pytest.mark.parametrize("query", ["maxResults=many", "maxResults=-1", "pageToken=%FF", "pageToken=a"])
def test_a_list_with_a_bad_query_is_refused(apis: GoogleApis, query: str) -> None:
    assert operator(apis).code("GET", f"/storage/v1/b/{bucket(apis)}/o?{query}") == 400


def test_a_retention_that_is_no_number_is_refused(apis: GoogleApis) -> None:
    with pytest.raises(ApiError, match="retentionPeriod"):
        bucket(apis, retentionPolicy={"retentionPeriod": "a day"})
