"""Cloud Storage's JSON API (https://cloud.google.com/storage/docs/json_api): buckets and objects on disk.

What it keeps to: generations and preconditions, versioning, retention policies and their lock, holds, IAM with
conditions on object names, customer-managed keys. An object in a bucket with a default key is encrypted with a data
key of its own that the bucket's Cloud KMS key wraps, by the project's service agent, which needs the permission:
without the key there is no object. Not kept to: ACLs, lifecycle rules, soft delete, signed URLs (their settings are
stored).
"""

import base64
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import google_crc32c
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailinfra.sandbox.gcp.http import ApiError, Request, Response, Router, whole
from mailinfra.sandbox.gcp.identity import Identity, Resource, project_number, project_policy, storage_agent
from mailinfra.sandbox.gcp.kms import Kms, key_resource
from mailinfra.sandbox.gcp.store import Document, Store, from_timestamp, now, timestamp

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_BUCKET_FIELDS: Final = frozenset(
    {
        "acl",
        "autoclass",
        "cors",
        "customPlacementConfig",
        "defaultEventBasedHold",
        "encryption",
        "hierarchicalNamespace",
        "iamConfiguration",
        "labels",
        "lifecycle",
        "logging",
        "retentionPolicy",
        "rpo",
        "softDeletePolicy",
        "storageClass",
        "versioning",
        "website",
    }
)
_OBJECT_FIELDS: Final = frozenset(
    {
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "customTime",
        "eventBasedHold",
        "metadata",
        "storageClass",
        "temporaryHold",
    }
)
_NONCE: Final = 12
_PAGE: Final = 1000


def _flag(query: Any, name: str) -> bool:
    return str(query.get(name, "false")).lower() == "true"


class Storage:
    """The API's buckets and objects; contents lie as files under `folder`."""

    def __init__(self, store: Store, folder: Path, identity: Identity, kms: Kms) -> None:
        self._store = store
        self._folder = folder
        self._identity = identity
        self._kms = kms
        self._last_generation = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def routes(self, router: Router) -> None:
        """Adds the API's paths."""
        bucket = "/storage/v1/b/{bucket}"
        router.add("POST", "/storage/v1/b", self._create_bucket)
        router.add("GET", "/storage/v1/b", self._list_buckets)
        router.add("GET", bucket, self._get_bucket)
        router.add("PATCH", bucket, self._patch_bucket)
        router.add("DELETE", bucket, self._delete_bucket)
        router.add("POST", f"{bucket}/lockRetentionPolicy", self._lock_retention)
        router.add("GET", f"{bucket}/iam", self._get_policy)
        router.add("PUT", f"{bucket}/iam", self._set_policy)
        router.add("GET", f"{bucket}/iam/testPermissions", self._test_permissions)
        router.add("GET", f"{bucket}/o", self._list_objects)
        router.add("GET", f"{bucket}/o/{{object}}", self._get_object)
        router.add("HEAD", f"{bucket}/o/{{object}}", self._get_object)
        router.add("GET", f"/download{bucket}/o/{{object}}", self._download)
        router.add("PATCH", f"{bucket}/o/{{object}}", self._patch_object)
        router.add("DELETE", f"{bucket}/o/{{object}}", self._delete_object)
        router.add("POST", f"/upload{bucket}/o", self._upload)
        router.add("PUT", f"/upload{bucket}/o", self._resume)
        router.add("POST", f"{bucket}/o/{{object}}/rewriteTo/b/{{to_bucket}}/o/{{object_to}}", self._rewrite)
        router.add("GET", "/storage/v1/projects/{project}/serviceAccount", self._service_account)

    # Buckets

    def _create_bucket(self, request: Request) -> Document:
        project, body = request.query.get("project", ""), request.json()
        name = body.get("name", "")
        project_resource = Resource(
            f"projects/{project}", "cloudresourcemanager.googleapis.com/Project", (project_policy(project),)
        )
        self._identity.require(request.principal, "storage.buckets.create", project_resource)
        if not project or not _BUCKET_NAME.fullmatch(name) or "google" in name:
            raise ApiError(400, f"Invalid bucket name: '{name}', or no project.", reason="invalid")
        created = timestamp(now())
        document = {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
            "projectNumber": project_number(project),
            "project": project,
            "location": body.get("location", "US").upper(),
            "locationType": "region" if "-" in body.get("location", "US") else "multi-region",
            "timeCreated": created,
            "updated": created,
            "metageneration": "1",
            "storageClass": "STANDARD",
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": False},
                "publicAccessPrevention": "inherited",
            },
        }
        self._apply_bucket(document, body)
        with self._store.transaction():
            if self._store.get("bucket", name):
                raise ApiError(
                    409, "Your previous request to create the named bucket succeeded and you already own it."
                )
            self._store.put("bucket", name, document)
        return self._shown_bucket(document)

    def _apply_bucket(self, document: Document, changes: Document) -> None:
        if encryption := changes.get("encryption"):
            self._check_key(document["project"], encryption.get("defaultKmsKeyName"))
        if "retentionPolicy" in changes:
            self._apply_retention(document, changes["retentionPolicy"])
        for field in _BUCKET_FIELDS & set(changes) - {"retentionPolicy"}:
            if changes[field] is None:
                document.pop(field, None)
            else:
                document[field] = changes[field]
        document["etag"] = base64.b64encode(secrets.token_bytes(6)).decode()

    def _apply_retention(self, document: Document, policy: Document | None) -> None:
        present = document.get("retentionPolicy")
        seconds = whole((policy or {}).get("retentionPeriod") or 0, "retentionPolicy.retentionPeriod")
        if present and present.get("isLocked") and seconds < int(present["retentionPeriod"]):
            raise ApiError(
                403, f"Cannot reduce the retention of bucket '{document['name']}': its policy is locked."
            )
        if not seconds:
            document.pop("retentionPolicy", None)
            return
        document["retentionPolicy"] = {
            "retentionPeriod": str(seconds),
            "effectiveTime": present["effectiveTime"] if present else timestamp(now()),
            **({"isLocked": True} if present and present.get("isLocked") else {}),
        }

    def _check_key(self, project: str, key: str | None) -> None:
        if key is None:
            return
        agent = f"serviceAccount:{storage_agent(project)}"
        for permission in ("useToEncrypt", "useToDecrypt"):
            if not self._identity.allowed(
                agent, f"cloudkms.cryptoKeyVersions.{permission}", key_resource(key)
            ):
                raise ApiError(
                    403,
                    f"Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account "
                    f"({storage_agent(project)}) has been authorized to use this key ({key}).",
                )

    def _list_buckets(self, request: Request) -> Document:
        project = request.query.get("project", "")
        resource = Resource(
            f"projects/{project}", "cloudresourcemanager.googleapis.com/Project", (project_policy(project),)
        )
        self._identity.require(request.principal, "storage.buckets.list", resource)
        found = [b for _, b in self._store.list("bucket") if b["project"] == project]
        return {"kind": "storage#buckets", "items": [self._shown_bucket(bucket) for bucket in found]}

    def _bucket(self, name: str) -> Document:
        document = self._store.get("bucket", name)
        if document is None:
            raise ApiError(404, "The specified bucket does not exist.", reason="notFound")
        return document

    @staticmethod
    def _shown_bucket(document: Document) -> Document:
        return {field: value for field, value in document.items() if field != "project"}

    def _bucket_resource(self, bucket: str) -> Resource:
        return Resource(
            f"projects/_/buckets/{bucket}",
            "storage.googleapis.com/Bucket",
            (_policy(bucket), project_policy(self._bucket(bucket)["project"])),
        )

    def _object_resource(self, bucket: str, name: str) -> Resource:
        above = self._bucket_resource(bucket)
        return Resource(f"{above.name}/objects/{name}", "storage.googleapis.com/Object", above.policies)

    def _get_bucket(self, request: Request, bucket: str) -> Document:
        self._identity.require(request.principal, "storage.buckets.get", self._bucket_resource(bucket))
        return self._shown_bucket(self._bucket(bucket))

    def _patch_bucket(self, request: Request, bucket: str) -> Document:
        self._identity.require(request.principal, "storage.buckets.update", self._bucket_resource(bucket))
        changes = request.json()
        with self._store.transaction():
            document = self._bucket(bucket)
            _check_metageneration(request, document)
            self._apply_bucket(document, changes)
            _touch(document)
            self._store.put("bucket", bucket, document)
        return self._shown_bucket(document)

    def _delete_bucket(self, request: Request, bucket: str) -> Response:
        self._identity.require(request.principal, "storage.buckets.delete", self._bucket_resource(bucket))
        with self._store.transaction():
            if any(True for _ in self._versions(bucket)):
                raise ApiError(409, "The bucket you tried to delete is not empty.", reason="conflict")
            self._store.delete("bucket", bucket)
            self._identity.drop_policy(_policy(bucket))
        return Response(status=204)

    def _lock_retention(self, request: Request, bucket: str) -> Document:
        self._identity.require(request.principal, "storage.buckets.update", self._bucket_resource(bucket))
        with self._store.transaction():
            document = self._bucket(bucket)
            _check_metageneration(request, document, needed=True)
            if "retentionPolicy" not in document:
                raise ApiError(400, f"Bucket '{bucket}' has no retention policy to lock.")
            document["retentionPolicy"]["isLocked"] = True
            _touch(document)
            self._store.put("bucket", bucket, document)
        return self._shown_bucket(document)

    def _get_policy(self, request: Request, bucket: str) -> Document:
        self._identity.require(
            request.principal, "storage.buckets.getIamPolicy", self._bucket_resource(bucket)
        )
        return {"kind": "storage#policy", **self._identity.policy(_policy(bucket))}

    def _set_policy(self, request: Request, bucket: str) -> Document:
        self._identity.require(
            request.principal, "storage.buckets.setIamPolicy", self._bucket_resource(bucket)
        )
        policy = request.json()
        uniform = self._bucket(bucket).get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
        if any(b.get("condition") for b in policy.get("bindings", ())) and not uniform.get("enabled"):
            raise ApiError(412, "IAM conditions need uniform bucket-level access on the bucket.")
        return {"kind": "storage#policy", **self._identity.set_policy(_policy(bucket), policy)}

    def _test_permissions(self, request: Request, bucket: str) -> Document:
        wanted = [v for v in request.query.get("permissions", "").split(",") if v]
        return self._identity.test(request.principal, self._bucket_resource(bucket), wanted)

    def _service_account(self, request: Request, project: str) -> Document:
        return {"kind": "storage#serviceAccount", "email_address": storage_agent(project)}

    # Objects: one document a version, named BUCKET/NAME\nGENERATION (no name holds a line feed)

    def _versions(self, bucket: str, prefix: str = "") -> Iterator[Document]:
        for _, document in self._store.list("object", f"{bucket}/{prefix}"):
            yield document

    def _live(self, bucket: str, name: str) -> Document | None:
        """The live version, or None. A pointer document names it, so that it takes one look-up."""
        pointer = self._store.get("live", f"{bucket}/{name}")
        return self._store.get("object", _key(bucket, name, pointer["generation"])) if pointer else None

    def _find(self, request: Request, bucket: str, name: str, permission: str) -> Document:
        """The version that the request means. Raises ApiError 403 or 404 as the service words them."""
        resource = self._object_resource(bucket, name)
        self._identity.require(request.principal, permission, resource)
        generation = request.query.get("generation")
        document = (
            self._store.get("object", _key(bucket, name, generation))
            if generation
            else self._live(bucket, name)
        )
        if document is None:
            # Who may not list must not learn what is there.
            self._identity.require(request.principal, "storage.objects.list", self._bucket_resource(bucket))
            raise ApiError(404, f"No such object: {bucket}/{name}", reason="notFound")
        return document

    @staticmethod
    def _check(query: Any, present: Document | None) -> None:
        """Raises ApiError 412 (304 for a read that is up to date) unless the preconditions hold."""
        generation = present["generation"] if present else "0"
        metageneration = present["metageneration"] if present else "0"
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and wanted != generation:
            raise ApiError(
                412,
                "At least one of the pre-conditions you specified did not hold.",
                reason="conditionNotMet",
            )
        wanted = query.get("ifMetagenerationMatch")
        if wanted is not None and wanted != metageneration:
            raise ApiError(
                412,
                "At least one of the pre-conditions you specified did not hold.",
                reason="conditionNotMet",
            )
        if (
            query.get("ifGenerationNotMatch") == generation
            or query.get("ifMetagenerationNotMatch") == metageneration
        ):
            raise ApiError(304, "Not Modified", reason="notModified")

    def _list_objects(self, request: Request, bucket: str) -> Document:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        self._identity.require(
            request.principal,
            "storage.objects.list",
            self._bucket_resource(bucket),
            {
                "storage.googleapis.com/objectListPrefix": prefix,
                "storage.googleapis.com/objectListDelimiter": delimiter,
            },
        )
        size = min(whole(query.get("maxResults", _PAGE), "maxResults"), _PAGE)
        try:
            after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
        except ValueError as error:
            raise ApiError(400, f"Invalid value at 'pageToken': {query['pageToken']!r}") from error
        if _flag(query, "versions"):
            found = list(self._versions(bucket, prefix))
        else:
            found = [
                live
                for name, _ in self._store.list("live", f"{bucket}/{prefix}")
                if (live := self._live(bucket, name.partition("/")[2]))
            ]
        items: list[Document] = []
        prefixes: dict[str, None] = {}
        page: Document = {"kind": "storage#objects"}
        last = ""
        for document in found:
            name = document["name"]
            order = f"{name}\n{document['generation'] if _flag(query, 'versions') else ''}"
            folder = ""
            if delimiter and delimiter in name[len(prefix) :]:
                folder = prefix + name[len(prefix) :].split(delimiter, 1)[0] + delimiter
                order = f"{folder}\U0010ffff"
            if order <= after or folder in prefixes:
                continue
            if len(items) + len(prefixes) == size:
                page["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
                break
            if folder:
                prefixes[folder] = None
            else:
                items.append(_shown(document))
            last = order
        return page | ({"items": items} if items else {}) | ({"prefixes": [*prefixes]} if prefixes else {})

    def _get_object(self, request: Request, bucket: str, object: str) -> Response | Document:
        if request.query.get("alt") == "media":
            return self._download(request, bucket, object)
        document = self._find(request, bucket, object, "storage.objects.get")
        self._check(request.query, document)
        return _shown(document)

    def _download(self, request: Request, bucket: str, object: str) -> Response:
        document = self._find(request, bucket, object, "storage.objects.get")
        self._check(request.query, document)
        content = self._content(document)
        headers = {
            "Content-Type": document.get("contentType", "application/octet-stream"),
            "ETag": f'"{document["etag"]}"',
            "Last-Modified": format_datetime(from_timestamp(document["updated"]), usegmt=True),
            "x-goog-generation": document["generation"],
            "x-goog-metageneration": document["metageneration"],
            "x-goog-hash": f"crc32c={document['crc32c']},md5={document['md5Hash']}",
            "x-goog-stored-content-length": document["size"],
        }
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if match is None or match.groups() == ("", ""):
            return Response(content, headers=headers)
        first, last = match.groups()
        start = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last), len(content) - 1) if first and last else len(content) - 1
        if start > end:
            raise ApiError(
                416, "The requested range cannot be satisfied.", reason="requestedRangeNotSatisfiable"
            )
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return Response(content[start : end + 1], 206, headers)

    def _content(self, document: Document) -> bytes:
        stored: bytes = (self._folder / document["file"]).read_bytes()
        if "dataKey" not in document:
            return stored
        key = document["kmsKeyName"].partition("/cryptoKeyVersions/")[0]
        self._check_key(self._bucket(document["bucket"])["project"], key)
        data_key = self._kms.open(key, base64.b64decode(document["dataKey"]), document["file"].encode())
        content: bytes = AESGCM(data_key).decrypt(stored[:_NONCE], stored[_NONCE:], None)
        return content

    def _upload(self, request: Request, bucket: str) -> Response | Document:
        kind = request.query.get("uploadType", "media")
        if kind == "media":
            metadata = {"contentType": request.headers.get("content-type", "application/octet-stream")}
            return self._insert(request.principal, bucket, request.query, metadata, request.body)
        if kind == "multipart":
            metadata, content = _split(request)
            return self._insert(request.principal, bucket, request.query, metadata, content)
        if kind == "resumable":
            return self._begin(request, bucket)
        raise ApiError(400, f"uploadType {kind!r}: media, multipart or resumable")

    def _begin(self, request: Request, bucket: str) -> Response:
        metadata = request.json()
        if content_type := request.headers.get("x-upload-content-type"):
            metadata.setdefault("contentType", content_type)
        name = metadata.get("name") or request.query.get("name", "")
        self._may_write(request.principal, bucket, name)
        upload = secrets.token_urlsafe(24)
        (self._folder / f"upload-{upload}").touch(mode=0o600)
        self._store.put(
            "upload",
            upload,
            {
                "bucket": bucket,
                "metadata": metadata,
                "query": dict(request.query),
                "principal": request.principal,
            },
        )
        scheme = request.headers.get("x-forwarded-proto", "http")
        host = request.headers.get("host", "localhost")
        location = (
            f"{scheme}://{host}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={upload}"
        )
        return Response(headers={"Location": location, "X-GUploader-UploadID": upload})

    def _resume(self, request: Request, bucket: str) -> Response | Document:
        upload = request.query.get("upload_id", "")
        begun = self._store.get("upload", upload)
        if begun is None or begun["bucket"] != bucket or begun["principal"] != request.principal:
            raise ApiError(404, "No such upload.", reason="notFound")
        path = self._folder / f"upload-{upload}"
        have = path.stat().st_size
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", ""))
        first, total = (match[1], match[3]) if match else ("0", str(len(request.body)))
        if first is not None:
            if int(first) > have:
                raise ApiError(503, f"The upload has {have} bytes: continue there.")
            with path.open("r+b") as file:
                file.seek(int(first))
                file.write(request.body)
                file.truncate()
                have = file.tell()
        if total == "*" or have < int(total):
            return Response(status=308, headers={"Range": f"bytes=0-{have - 1}"} if have else {})
        answer = self._insert(request.principal, bucket, begun["query"], begun["metadata"], path.read_bytes())
        self._store.delete("upload", upload)
        path.unlink()
        return answer

    def _may_write(self, principal: str, bucket: str, name: str) -> None:
        if not name or len(name.encode()) > 1024 or "\0" in name or "\r" in name or "\n" in name:
            raise ApiError(400, f"Invalid object name: {name!r}", reason="invalid")
        resource = self._object_resource(bucket, name)
        self._identity.require(principal, "storage.objects.create", resource)
        if self._live(bucket, name):  # overwriting takes away what was there
            self._identity.require(principal, "storage.objects.delete", resource)

    def _insert(
        self, principal: str, bucket: str, query: Any, metadata: Document, content: bytes
    ) -> Document:
        name = metadata.get("name") or query.get("name", "")
        self._may_write(principal, bucket, name)
        holder = self._bucket(bucket)
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        crc32c = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        for field, present in (("md5Hash", md5), ("crc32c", crc32c)):
            if metadata.get(field, present) != present:
                raise ApiError(
                    400, f"Provided {field} '{metadata[field]}' doesn't match calculated '{present}'."
                )
        file = secrets.token_hex(16)
        key = (
            query.get("kmsKeyName")
            or metadata.get("kmsKeyName")
            or holder.get("encryption", {}).get("defaultKmsKeyName")
        )
        sealed: Document = {}
        stored = content
        if key:
            self._check_key(holder["project"], key)
            data_key, nonce = AESGCM.generate_key(256), secrets.token_bytes(_NONCE)
            wrapped, version = self._kms.seal(key, data_key, file.encode())
            sealed = {"kmsKeyName": version["name"], "dataKey": base64.b64encode(wrapped).decode()}
            stored = nonce + AESGCM(data_key).encrypt(nonce, content, None)
        with os.fdopen(
            os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as handle:
            handle.write(stored)
            handle.flush()
            os.fsync(handle.fileno())
        moment = timestamp(now())
        try:
            with self._store.transaction():
                holder = self._bucket(bucket)
                present_version = self._live(bucket, name)
                self._check(query, present_version)
                if present_version:
                    self._retire(holder, present_version, keep=_versioned(holder))
                generation = self._generation()
                document = {
                    "kind": "storage#object",
                    "id": f"{bucket}/{name}/{generation}",
                    "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{quote(name, safe='')}",
                    "name": name,
                    "bucket": bucket,
                    "generation": generation,
                    "metageneration": "1",
                    "contentType": "application/octet-stream",
                    "storageClass": holder["storageClass"],
                    **{k: v for k, v in metadata.items() if k in _OBJECT_FIELDS},
                    "size": str(len(content)),
                    "md5Hash": md5,
                    "crc32c": crc32c,
                    "etag": base64.b64encode(hashlib.sha256(generation.encode()).digest()[:9]).decode(),
                    "timeCreated": moment,
                    "updated": moment,
                    "file": file,
                    **sealed,
                }
                if holder.get("defaultEventBasedHold"):
                    document.setdefault("eventBasedHold", True)
                if retention := holder.get("retentionPolicy"):
                    document["retentionExpirationTime"] = timestamp(
                        from_timestamp(moment) + timedelta(seconds=int(retention["retentionPeriod"]))
                    )
                self._store.put("object", _key(bucket, name, generation), document)
                self._store.put("live", f"{bucket}/{name}", {"generation": generation})
        except BaseException:
            (self._folder / file).unlink(missing_ok=True)
            raise
        return _shown(document)

    def _generation(self) -> str:
        """Microseconds since the epoch, as the service's generations are, and growing."""
        self._last_generation = max(self._last_generation + 1, time.time_ns() // 1000)
        return str(self._last_generation)

    def _retire(self, holder: Document, document: Document, *, keep: bool) -> None:
        """Makes a live version noncurrent, or removes a version for good if retention and holds let it."""
        bucket, name, generation = document["bucket"], document["name"], document["generation"]
        pointer = self._store.get("live", f"{bucket}/{name}")
        live = pointer is not None and pointer["generation"] == generation
        if document.get("temporaryHold") or document.get("eventBasedHold"):
            raise ApiError(
                403, f"Object '{bucket}/{name}' is under active hold and cannot be deleted or overwritten."
            )
        if not keep:
            if retention := holder.get("retentionPolicy"):
                ends = from_timestamp(document["timeCreated"]) + timedelta(
                    seconds=int(retention["retentionPeriod"])
                )
                if ends > now():
                    raise ApiError(
                        403,
                        f"Object '{bucket}/{name}' is subject to bucket's retention policy or object retention and "
                        f"cannot be deleted or overwritten until {timestamp(ends)}",
                        reason="retentionPolicyNotMet",
                    )
            self._store.delete("object", _key(bucket, name, generation))
            (self._folder / document["file"]).unlink(missing_ok=True)
        else:
            self._store.put(
                "object", _key(bucket, name, generation), document | {"timeDeleted": timestamp(now())}
            )
        if live:
            self._store.delete("live", f"{bucket}/{name}")

    def _patch_object(self, request: Request, bucket: str, object: str) -> Document:
        changes = request.json()
        if unknown := set(changes) - _OBJECT_FIELDS - {"retention", "acl"}:
            raise ApiError(400, f"{', '.join(sorted(unknown))} cannot be updated")
        with self._store.transaction():
            document = self._find(request, bucket, object, "storage.objects.update")
            self._check(request.query, document)
            for field, value in changes.items():
                if value is None:
                    document.pop(field, None)
                elif field == "metadata":
                    merged = document.get("metadata", {}) | value
                    document["metadata"] = {k: v for k, v in merged.items() if v is not None}
                else:
                    document[field] = value
            _touch(document)
            self._store.put("object", _key(bucket, object, document["generation"]), document)
        return _shown(document)

    def _delete_object(self, request: Request, bucket: str, object: str) -> Response:
        with self._store.transaction():
            document = self._find(request, bucket, object, "storage.objects.delete")
            self._check(request.query, document)
            holder = self._bucket(bucket)
            self._retire(holder, document, keep=_versioned(holder) and "generation" not in request.query)
        return Response(status=204)

    def _rewrite(
        self, request: Request, bucket: str, object: str, to_bucket: str, object_to: str
    ) -> Document:
        source = dict(request.query)
        source["generation"] = source.pop("sourceGeneration", "")
        for field in ("ifGenerationMatch", "ifMetagenerationMatch"):
            source.pop(field, None)
        found = self._find(
            Request(request.method, request.path, source, principal=request.principal),
            bucket,
            object,
            "storage.objects.get",
        )
        metadata = (
            {k: v for k, v in found.items() if k in _OBJECT_FIELDS} | request.json() | {"name": object_to}
        )
        resource = self._insert(request.principal, to_bucket, request.query, metadata, self._content(found))
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": resource["size"],
            "objectSize": resource["size"],
            "done": True,
            "resource": resource,
        }


def _policy(bucket: str) -> str:
    return f"//storage/{bucket}"


def _key(bucket: str, name: str, generation: str) -> str:
    return f"{bucket}/{name}\n{generation:0>20}"


def _versioned(bucket: Document) -> bool:
    return bool(bucket.get("versioning", {}).get("enabled"))


def _shown(document: Document) -> Document:
    shown = {field: value for field, value in document.items() if field not in {"file", "dataKey"}}
    shown["mediaLink"] = (
        f"https://www.googleapis.com/download/storage/v1/b/{document['bucket']}/o/"
        f"{quote(document['name'], safe='')}?generation={document['generation']}&alt=media"
    )
    return shown


def _touch(document: Document) -> None:
    document["metageneration"] = str(int(document["metageneration"]) + 1)
    document["updated"] = timestamp(now())


def _check_metageneration(request: Request, document: Document, *, needed: bool = False) -> None:
    wanted = request.query.get("ifMetagenerationMatch")
    if wanted is None and needed:
        raise ApiError(400, "Required parameter: ifMetagenerationMatch", reason="required")
    if wanted is not None and wanted != document["metageneration"]:
        raise ApiError(
            412, "At least one of the pre-conditions you specified did not hold.", reason="conditionNotMet"
        )


def _split(request: Request) -> tuple[Document, bytes]:
    """The metadata and the content of a multipart/related upload (RFC 2387); the content may be any octets."""
    boundary = re.search(r"""boundary=["']?([^"';]+)""", request.headers.get("content-type", ""))
    parts = (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].encode()) if boundary else []
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise ApiError(400, "A multipart upload needs two parts: the metadata and the content.")
    heads, bodies = zip(*(part.partition(b"\r\n\r\n")[::2] for part in parts[1:3]), strict=True)
    try:
        metadata = json.loads(bodies[0])
    except ValueError as error:
        raise ApiError(400, f"The metadata part is no JSON: {error}") from error
    if match := re.search(rb"(?im)^content-type:\s*(.+?)\s*$", heads[1]):
        metadata.setdefault("contentType", match[1].decode())
    return metadata, bodies[1]
