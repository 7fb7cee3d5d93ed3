"""Cloud Storage's types."""

import base64
import hashlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Change, Rules
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.gcp.api import GoogleError, segment
from mailinfra.sandbox.providers.gcp.common import (
    LABELLED,
    GcpAdapter,
    api,
    labels,
    nested,
    setting,
    settled,
)
from mailinfra.sandbox.providers.values import ASSET, SIGNATURE, UNKNOWN, Object

_SAME = (
    "storageClass",
    "versioning",
    "encryption",
    "softDeletePolicy",
    "defaultEventBasedHold",
    "rpo",
    "autoclass",
    "logging",
    "website",
)
"""Inputs of a bucket that the API has under the same name and in the same shape."""


class Bucket(GcpAdapter):
    """`gcp.storage.Bucket`."""

    computed = frozenset(
        {
            "project",
            "rpo",
            "softDeletePolicy",
            "publicAccessPrevention",
            "uniformBucketLevelAccess",
            "storageClass",
        }
    )
    volatile = LABELLED | {"updated"}
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "location",
                "project",
                "customPlacementConfig",
                "enableObjectRetention",
                "hierarchicalNamespace",
            }
        )
    )

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        old = call.old_inputs.get("retentionPolicy") or {}
        new = call.inputs.get("retentionPolicy") or {}
        unlocked = old.get("isLocked") is True and new != UNKNOWN and not new.get("isLocked")
        return nested(changes, frozenset({"retentionPolicy"})) if unlocked else frozenset()

    def create(self, call: Call) -> tuple[str, Object]:
        project, name = setting(call, "project"), call.inputs["name"]
        body = _bucket(call) | {"name": name, "location": call.inputs["location"]}
        made = api(call).call("POST", "/storage/v1/b", body, {"project": project})
        try:
            made = self._lock(call, made)
        except GoogleError as error:
            raise Unfinished(str(error), name, self._outputs(call, made)) from error
        return name, self._outputs(call, made) | {"project": project}

    @staticmethod
    def _lock(call: Call, bucket: Object) -> Object:
        wanted = call.inputs.get("retentionPolicy", {}).get("isLocked")
        if not wanted or bucket.get("retentionPolicy", {}).get("isLocked"):
            return bucket
        query = {"ifMetagenerationMatch": bucket["metageneration"]}
        return api(call).call("POST", f"/storage/v1/b/{bucket['name']}/lockRetentionPolicy", {}, query)

    def read(self, call: Call) -> Object | None:
        bucket = api(call).find(f"/storage/v1/b/{call.id}")
        if bucket is None:
            return None
        found = self._outputs(call, bucket) | {
            "name": bucket["name"],
            "location": bucket["location"],
            **{field: bucket[field] for field in _SAME if field in bucket},
        }
        if policy := bucket.get("retentionPolicy"):
            found["retentionPolicy"] = {
                "retentionPeriod": str(policy["retentionPeriod"]),
                "isLocked": policy.get("isLocked", False),
            }
        if str(call.inputs.get("location", "")).upper() == bucket["location"]:
            found.pop("location")
        return settled(call, found)

    def update(self, call: Call) -> Object:
        body = _bucket(call)
        for field in _SAME:
            if field in call.old_inputs and field not in call.inputs:
                body[field] = None
        if "retentionPolicy" in call.old_inputs and "retentionPolicy" not in call.inputs:
            body["retentionPolicy"] = None
        bucket = api(call).call("PATCH", f"/storage/v1/b/{call.id}", body)
        return self._outputs(call, self._lock(call, bucket))

    def remove(self, call: Call) -> None:
        client, path = api(call), f"/storage/v1/b/{call.id}"
        if client.find(path) is None:
            return
        while items := client.call("GET", f"{path}/o", query={"versions": "true"}).get("items"):
            if not call.state.get("forceDestroy"):
                raise ProviderError(
                    f"Error trying to delete bucket {call.id} containing objects without `forceDestroy` set to true"
                )
            for item in items:
                client.call(
                    "DELETE", f"{path}/o/{segment(item['name'])}", query={"generation": item["generation"]}
                )
        client.call("DELETE", path)

    @staticmethod
    def _outputs(call: Call, bucket: Object) -> Object:
        iam = bucket["iamConfiguration"]
        return labels(call) | {
            "selfLink": bucket["selfLink"],
            "url": f"gs://{bucket['name']}",
            "projectNumber": int(bucket["projectNumber"]),
            "timeCreated": bucket["timeCreated"],
            "updated": bucket["updated"],
            "storageClass": bucket["storageClass"],
            "uniformBucketLevelAccess": iam["uniformBucketLevelAccess"]["enabled"],
            "publicAccessPrevention": iam["publicAccessPrevention"],
        }


def _bucket(call: Call) -> dict[str, Any]:
    inputs = call.inputs
    body: dict[str, Any] = {field: inputs[field] for field in _SAME if field in inputs}
    body["labels"] = labels(call)["effectiveLabels"]
    body["iamConfiguration"] = {
        "uniformBucketLevelAccess": {"enabled": inputs.get("uniformBucketLevelAccess", False)},
        "publicAccessPrevention": inputs.get("publicAccessPrevention", "inherited"),
    }
    if policy := inputs.get("retentionPolicy"):
        body["retentionPolicy"] = {"retentionPeriod": str(policy["retentionPeriod"])}
    for field, name in (("lifecycleRules", "lifecycle"), ("cors", "cors")):
        if field in inputs:
            body[name] = {"rule": inputs[field]} if name == "lifecycle" else inputs[field]
    return body


_METADATA = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "metadata",
    "storageClass",
    "kmsKeyName",
    "eventBasedHold",
    "temporaryHold",
)


class BucketObject(GcpAdapter):
    """`gcp.storage.BucketObject`; a new content is uploaded over the old, a new source is a new object."""

    computed = frozenset({"contentType", "storageClass", "kmsKeyName"})
    volatile = frozenset({"crc32c", "md5hash", "md5hexhash", "generation", "mediaLink"})
    rules = Rules(
        replaces=frozenset(
            {
                "bucket",
                "name",
                "cacheControl",
                "contentDisposition",
                "contentEncoding",
                "contentLanguage",
                "contentType",
                "customerEncryption",
                "forceEmptyContentType",
                "kmsKeyName",
                "metadata",
                "source",
                "storageClass",
            }
        )
    )

    def check(self, call: Call) -> list[Failure]:
        given = [field for field in ("content", "source") if field in call.inputs]
        if len(given) == 1:
            return []
        return [
            Failure(
                "content", f"found {' and '.join(given) or 'neither'}; allowed: one of content and source"
            )
        ]

    def create(self, call: Call) -> tuple[str, Object]:
        inputs = call.inputs
        return f"{inputs['bucket']}-{inputs['name']}", self._put(call)

    def _put(self, call: Call) -> Object:
        inputs = call.inputs
        if "customerEncryption" in inputs:
            raise ProviderError(
                f"{call.token} {call.name}: customerEncryption: the sandbox has kmsKeyName only"
            )
        content = inputs["content"].encode() if "content" in inputs else _bytes(inputs["source"])
        metadata = {field: inputs[field] for field in _METADATA if field in inputs} | {"name": inputs["name"]}
        metadata.setdefault("contentType", "text/plain; charset=utf-8")
        client, bucket = api(call), inputs["bucket"]
        boundary = hashlib.sha256(content).hexdigest()
        body = _multipart(metadata, content, boundary)
        made = client.call(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o",
            body,
            {"uploadType": "multipart"},
            f"multipart/related; boundary={boundary}",
        )
        return _object(made)

    def read(self, call: Call) -> Object | None:
        bucket = call.state.get("bucket") or call.inputs.get("bucket")
        name = call.state.get("name") or call.inputs.get("name")
        if not bucket or not name:
            raise ProviderError(
                f"{call.token} {call.id}: an object cannot be imported, as with the real provider"
            )
        path = f"/storage/v1/b/{bucket}/o/{segment(name)}"
        found = api(call).find(path)
        if found is None:
            return None
        outputs = _object(found) | {"bucket": bucket, "name": name}
        if found["md5Hash"] != call.state.get("md5hash"):
            text = api(call).raw("GET", path, query={"alt": "media"}).decode(errors="replace")
            if "content" in call.inputs:
                outputs["content"] = text
            else:
                digest = hashlib.sha256(text.encode()).hexdigest()
                outputs["source"] = {SIGNATURE: ASSET, "text": text, "hash": digest}
        return settled(call, outputs)

    def update(self, call: Call) -> Object:
        if call.changed("content"):
            return self._put(call)
        bucket, name = call.inputs["bucket"], call.inputs["name"]
        holds = {field: call.inputs.get(field, False) for field in ("eventBasedHold", "temporaryHold")}
        return _object(api(call).call("PATCH", f"/storage/v1/b/{bucket}/o/{segment(name)}", holds))

    def remove(self, call: Call) -> None:
        path = f"/storage/v1/b/{call.state['bucket']}/o/{segment(call.state['name'])}"
        if api(call).find(path) is not None:
            api(call).call("DELETE", path)


def _object(found: Object) -> Object:
    return {
        "crc32c": found["crc32c"],
        "md5hash": found["md5Hash"],
        "md5hexhash": base64.b64decode(found["md5Hash"]).hex(),
        "generation": int(found["generation"]),
        "mediaLink": found["mediaLink"],
        "selfLink": found["selfLink"],
        "outputName": found["name"],
        "contentType": found["contentType"],
        "storageClass": found["storageClass"],
        "kmsKeyName": found.get("kmsKeyName"),
    }


def _bytes(asset: Object) -> bytes:
    """An asset's content."""
    if "text" in asset:
        text: str = asset["text"]
        return text.encode()
    if "path" in asset:
        return Path(asset["path"]).read_bytes()
    if str(asset.get("uri", "")).startswith("file://"):
        with urllib.request.urlopen(asset["uri"]) as file:  # noqa: S310 - the scheme was looked at
            data: bytes = file.read()
            return data
    raise ProviderError("source: the sandbox uploads assets from a file or a text, not from the network")


def _multipart(metadata: Object, content: bytes, boundary: str) -> bytes:
    head = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(metadata)}\r\n"
        f"--{boundary}\r\nContent-Type: {metadata['contentType']}\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


ADAPTERS = {
    "gcp:storage/bucket:Bucket": Bucket(),
    "gcp:storage/bucketObject:BucketObject": BucketObject(),
}
