"""The region's control bucket, at S3 or at Cloud Storage, with the node's own cloud identity."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from mailinfra.node.agent import google
from mailinfra.node.agent.google import Token
from mailinfra.node.agent.node import Node

NOT_MODIFIED = 304
NOT_FOUND = 404
PRECONDITION_FAILED = 412
MISSING = (403, 404)
"""Both clouds say 403 for an object that is not there, to those who may not list it."""


class BucketError(Exception):
    """The bucket gave no answer (status 0), or refused."""

    def __init__(self, reason: object, status: int = 0) -> None:
        super().__init__(str(reason))
        self.status = status


class ExistsError(Exception):
    """There is an object of this name already."""


@dataclass(frozen=True)
class Stored:
    """An object as it was at one moment. `version` is opaque: an ETag or a generation."""

    data: bytes
    version: str


class Bucket(Protocol):
    """What the agent asks of a bucket. Everything may raise `BucketError`."""

    def get(self, key: str, known: str = "") -> Stored | None:
        """The object, or None where its version is still `known`. Raises `KeyError` when one sees none."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        ...

    def list(self, prefix: str) -> dict[str, str]:
        """The version of every object whose key starts with `prefix`."""
        ...


class Archive(Protocol):
    """A bucket to which one only adds. Everything may raise `BucketError`; who asks may list, so that what is not
    there is told from what is refused."""

    def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there yet. Raises `ExistsError`."""
        ...

    def read(self, key: str, first: int = 0, last: int | None = None) -> bytes:
        """An object's bytes from `first` to `last`, both included. Raises `KeyError` when it is not there."""
        ...

    def size(self, key: str) -> int:
        """An object's length in bytes. Raises `KeyError` when it is not there."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """The length of every object whose key starts with `prefix`."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """What comes between `prefix` and the next slash, of all keys that start with `prefix`, in order."""
        ...


class S3:
    """A bucket at S3, through boto3 and the instance's role, or whose credentials a session has."""

    def __init__(self, bucket: str, region: str, endpoint: str = "", session: Any = None) -> None:
        import boto3
        from botocore.config import Config

        # A custom endpoint's certificate does not cover <bucket>.<endpoint>.
        style = {"addressing_style": "path"} if endpoint else {}
        config = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3}, s3=style)
        self.bucket = bucket
        self.client: Any = (session or boto3).client(
            "s3", region_name=region, endpoint_url=endpoint or None, config=config
        )

    def call(self, method: str, **arguments: Any) -> dict[str, Any] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self.client, method)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == NOT_MODIFIED:
                return None
            if method == "get_object" and status in MISSING:
                raise KeyError(arguments["Key"]) from error
            raise BucketError(error, status or 0) from error
        except BotoCoreError as error:
            raise BucketError(error) from error
        return answer

    def get(self, key: str, known: str = "") -> Stored | None:
        """See `Bucket.get`."""
        answer = self.call("get_object", Key=key, **({"IfNoneMatch": known} if known else {}))
        return Stored(answer["Body"].read(), answer["ETag"]) if answer else None

    def put(self, key: str, data: bytes) -> None:
        """See `Bucket.put`."""
        self.call("put_object", Key=key, Body=data)

    def list(self, prefix: str) -> dict[str, str]:
        """See `Bucket.list`."""
        found: dict[str, str] = {}
        page: dict[str, str] = {}
        while answer := self.call("list_objects_v2", Prefix=prefix, **page):
            found |= {item["Key"]: item["ETag"] for item in answer.get("Contents", ())}
            if not answer.get("IsTruncated"):
                break
            page = {"ContinuationToken": answer["NextContinuationToken"]}
        return found


class S3Archive(S3):
    """A bucket at S3 to which one only adds."""

    def __init__(self, bucket: str, region: str, endpoint: str = "", session: Any = None) -> None:
        super().__init__(bucket, region, endpoint, session)
        # Debian 12's boto3 does not know the parameter IfNoneMatch; S3 has known the header since August 2024.
        self.client.meta.events.register("before-call.s3.PutObject", _only_if_absent)

    def create(self, key: str, data: bytes) -> None:
        """See `Archive.create`."""
        # Where objects are locked S3 insists on a checksum.
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            self.call("put_object", Key=key, Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=digest)
        except BucketError as error:
            if error.status == PRECONDITION_FAILED:
                raise ExistsError(key) from error
            raise

    def read(self, key: str, first: int = 0, last: int | None = None) -> bytes:
        """See `Archive.read`."""
        part = {"Range": f"bytes={first}-{'' if last is None else last}"} if first or last is not None else {}
        data: bytes = self._found("get_object", key, **part)["Body"].read()
        return data

    def size(self, key: str) -> int:
        """See `Archive.size`."""
        length: int = self._found("head_object", key)["ContentLength"]
        return length

    def sizes(self, prefix: str) -> dict[str, int]:
        """See `Archive.sizes`."""
        pages = self._pages(Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def folders(self, prefix: str) -> list[str]:
        """See `Archive.folders`."""
        pages = self._pages(Prefix=prefix, Delimiter="/")
        found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        return [name[len(prefix) : -1] for name in found]

    def _found(self, method: str, key: str, **arguments: Any) -> dict[str, Any]:
        # Not `get`: here 403 is a refusal, which must not be taken for an object that is not there.
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self.client, method)(Bucket=self.bucket, Key=key, **arguments)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == NOT_FOUND:
                raise KeyError(key) from error
            raise BucketError(error, status) from error
        except BotoCoreError as error:
            raise BucketError(error) from error
        return answer

    def _pages(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        page: dict[str, str] = {}
        while answer := self.call("list_objects_v2", **arguments, **page):
            yield answer
            if not answer.get("IsTruncated"):
                return
            page = {"ContinuationToken": answer["NextContinuationToken"]}


def _only_if_absent(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["If-None-Match"] = "*"


class Gcs:
    """A bucket at Cloud Storage, through its JSON API and the instance's service account, or who has the `token`."""

    def __init__(self, bucket: str, endpoint: str = "", token: Token | None = None) -> None:
        self.base = endpoint or "https://storage.googleapis.com"
        self.bucket = quote(bucket, safe="")
        self.token = token

    missing: tuple[int, ...] = MISSING
    """The answers that say that an object is not there."""

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        data: bytes | None = None,
        more: dict[str, str] | None = None,
    ) -> Any:
        key = query.pop("key", "")
        url = f"{self.base}{path}/b/{self.bucket}/o{'/' + quote(key, safe='') if key else ''}?{urlencode(query)}"
        try:
            return google.call(method, url, data, "application/octet-stream", token=self.token, more=more)
        except google.ApiError as error:
            if error.status == NOT_MODIFIED:
                return None
            if method == "GET" and key and error.status in self.missing:
                raise KeyError(key) from error
            raise BucketError(error, error.status) from error

    def get(self, key: str, known: str = "") -> Stored | None:
        """See `Bucket.get`."""
        condition = {"ifGenerationNotMatch": known} if known else {}
        answer = self.call("GET", "/storage/v1", {"key": key, "alt": "media", **condition})
        return answer and Stored(answer.body, answer.headers.get("x-goog-generation", ""))

    def put(self, key: str, data: bytes) -> None:
        """See `Bucket.put`."""
        self.call("POST", "/upload/storage/v1", {"uploadType": "media", "name": key}, data)

    def list(self, prefix: str) -> dict[str, str]:
        """See `Bucket.list`."""
        found: dict[str, str] = {}
        query = {"prefix": prefix, "fields": "items(name,generation),nextPageToken"}
        while True:
            page = self.call("GET", "/storage/v1", dict(query)).json()
            found |= {item["name"]: str(item["generation"]) for item in page.get("items", ())}
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]


class GcsArchive(Gcs):
    """A bucket at Cloud Storage to which one only adds."""

    missing = (NOT_FOUND,)

    def create(self, key: str, data: bytes) -> None:
        """See `Archive.create`."""
        query = {"uploadType": "media", "name": key, "ifGenerationMatch": "0"}
        try:
            answer = self.call("POST", "/upload/storage/v1", query, data)
        except BucketError as error:
            if error.status == PRECONDITION_FAILED:
                raise ExistsError(key) from error
            raise
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        if answer.json().get("md5Hash", digest) != digest:
            raise BucketError(f"{key} was stored otherwise than it was sent")

    def read(self, key: str, first: int = 0, last: int | None = None) -> bytes:
        """See `Archive.read`."""
        part = f"bytes={first}-{'' if last is None else last}" if first or last is not None else ""
        more = {"Range": part} if part else {}
        data: bytes = self.call("GET", "/storage/v1", {"key": key, "alt": "media"}, more=more).body
        return data

    def size(self, key: str) -> int:
        """See `Archive.size`."""
        return int(self.call("GET", "/storage/v1", {"key": key, "fields": "size"}).json()["size"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """See `Archive.sizes`."""
        pages = self._pages(prefix=prefix, fields="items(name,size),nextPageToken")
        return {item["name"]: int(item["size"]) for page in pages for item in page.get("items", ())}

    def folders(self, prefix: str) -> list[str]:
        """See `Archive.folders`."""
        pages = self._pages(prefix=prefix, delimiter="/", fields="prefixes,nextPageToken")
        return [name[len(prefix) : -1] for page in pages for name in page.get("prefixes", ())]

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        while True:
            page = self.call("GET", "/storage/v1", dict(query)).json()
            yield page
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]


def control(node: Node) -> Bucket:
    """The control bucket of the node's region."""
    endpoint = node.endpoints.get("storage", "")
    return S3(node.bucket, node.region, endpoint) if node.cloud == "aws" else Gcs(node.bucket, endpoint)
