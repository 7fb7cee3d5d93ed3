"""The region's control bucket, at S3 or at Cloud Storage, with the node's own cloud identity."""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from mailinfra.node.agent.node import Node

NOT_MODIFIED = 304
MISSING = (403, 404)
"""Both clouds say 403 for an object that is not there, to those who may not list it."""


class BucketError(Exception):
    """The bucket gave no answer, or refused."""


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


class S3:
    """A bucket at S3, through boto3 and the instance's role."""

    def __init__(self, bucket: str, region: str, endpoint: str = "") -> None:
        import boto3
        from botocore.config import Config

        # A custom endpoint's certificate does not cover <bucket>.<endpoint>.
        style = {"addressing_style": "path"} if endpoint else {}
        config = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3}, s3=style)
        self.bucket = bucket
        self.client: Any = boto3.client(
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
            raise BucketError(error) from error
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


class Gcs:
    """A bucket at Cloud Storage, through its JSON API and the instance's service account."""

    def __init__(self, bucket: str, endpoint: str = "") -> None:
        self.base = endpoint or "https://storage.googleapis.com"
        self.bucket = quote(bucket, safe="")

    def call(self, method: str, path: str, query: dict[str, str], data: bytes | None = None) -> Any:
        from mailinfra.node.agent import google

        key = query.pop("key", "")
        url = f"{self.base}{path}/b/{self.bucket}/o{'/' + quote(key, safe='') if key else ''}?{urlencode(query)}"
        try:
            return google.call(method, url, data, "application/octet-stream")
        except google.ApiError as error:
            if error.status == NOT_MODIFIED:
                return None
            if method == "GET" and key and error.status in MISSING:
                raise KeyError(key) from error
            raise BucketError(error) from error

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


def control(node: Node) -> Bucket:
    """The control bucket of the node's region."""
    endpoint = node.endpoints.get("storage", "")
    return S3(node.bucket, node.region, endpoint) if node.cloud == "aws" else Gcs(node.bucket, endpoint)
