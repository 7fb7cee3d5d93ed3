"""Buckets, their settings, and objects."""

import base64
import urllib.parse
from pathlib import Path
from typing import Any

from mailinfra.sandbox.providers.aws.adapter import AwsAdapter, region_of, tag_list, tag_outputs
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object, has_unknown

_INLINE = {
    "acl": "BucketAcl",
    "corsRules": "BucketCorsConfiguration",
    "grants": "BucketAcl",
    "lifecycleRules": "BucketLifecycleConfiguration",
    "logging": "BucketLogging",
    "policy": "BucketPolicy",
    "replicationConfiguration": "BucketReplicationConfig",
    "serverSideEncryptionConfiguration": "BucketServerSideEncryptionConfiguration",
    "versioning": "BucketVersioning",
    "website": "BucketWebsiteConfiguration",
}


class Bucket(AwsAdapter):
    """Settings are resources of their own; the deprecated inline ones are refused.

    https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucket/
    """

    service = "s3"
    rules = Rules(replaces=frozenset({"bucket", "bucketPrefix", "objectLockEnabled"}))
    computed = frozenset({"bucketPrefix", "objectLockEnabled", "requestPayer", "bucketNamespace"})

    def check(self, call: Call) -> list[Failure]:
        return [
            Failure(name, f"found a value; allowed in the sandbox: a resource aws.s3.{instead} instead")
            for name, instead in _INLINE.items()
            if call.inputs.get(name)
        ]

    def make(self, api: Any, call: Call) -> str:
        name, region = str(call.inputs["bucket"]), region_of(call)
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        api.create_bucket(
            Bucket=name, ObjectLockEnabledForBucket=bool(call.inputs.get("objectLockEnabled")), **where
        )
        return name

    def set_up(self, api: Any, call: Call) -> None:
        if call.changed("tags"):
            if tags := tag_list(call.inputs.get("tags")):
                api.put_bucket_tagging(Bucket=call.id, Tagging={"TagSet": tags})
            else:
                api.delete_bucket_tagging(Bucket=call.id)

    def find(self, api: Any, call: Call) -> Object | None:
        api.head_bucket(Bucket=call.id)
        region = region_of(call)
        return {
            "arn": f"arn:aws:s3:::{call.id}",
            "bucket": call.id,
            "bucketDomainName": f"{call.id}.s3.amazonaws.com",
            "bucketRegion": region,
            "bucketRegionalDomainName": f"{call.id}.s3.{region}.amazonaws.com",
            **tag_outputs(_setting(api.get_bucket_tagging, call.id).get("TagSet")),
        }

    def remove(self, api: Any, call: Call) -> None:
        if call.state.get("forceDestroy"):
            for page in api.get_paginator("list_object_versions").paginate(Bucket=call.id):
                entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                if entries:
                    doomed = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
                    api.delete_objects(Bucket=call.id, Delete={"Objects": doomed, "Quiet": True})
        api.delete_bucket(Bucket=call.id)


_UNSET = {
    "NoSuchTagSet",
    "NoSuchLifecycleConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
    "NoSuchBucketPolicy",
}


def _setting(get: Any, bucket: str) -> Any:
    """A bucket's setting, empty when it has none; a bucket that is not there is an error."""
    from botocore.exceptions import ClientError

    try:
        return get(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] in _UNSET:
            return {}
        raise


class BucketSetting(AwsAdapter):
    """A setting of a bucket, whose id is the bucket's name."""

    service = "s3"

    def make(self, api: Any, call: Call) -> str:
        self.put(api, call)
        return str(call.inputs["bucket"])

    def change(self, api: Any, call: Call) -> None:
        self.put(api, call)

    def put(self, api: Any, call: Call) -> None:
        """Set it."""
        raise NotImplementedError


class BucketVersioning(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketversioning/"""

    rules = Rules(replaces=frozenset({"bucket", "expectedBucketOwner"}))

    def put(self, api: Any, call: Call) -> None:
        status = call.inputs["versioningConfiguration"]["status"]
        if status == "Disabled":
            # "Disabled" says that it was never enabled; a bucket that was can only be suspended.
            if api.get_bucket_versioning(Bucket=call.inputs["bucket"]).get("Status"):
                raise ProviderError(
                    "versioningConfiguration.status: found Disabled; allowed once enabled: Suspended"
                )
            return
        api.put_bucket_versioning(Bucket=call.inputs["bucket"], VersioningConfiguration={"Status": status})

    def find(self, api: Any, call: Call) -> Object | None:
        status = api.get_bucket_versioning(Bucket=call.id).get("Status", "Disabled")
        return {"bucket": call.id, "versioningConfiguration": {"status": status}}

    def remove(self, api: Any, call: Call) -> None:
        if call.state.get("versioningConfiguration", {}).get("status") == "Enabled":
            api.put_bucket_versioning(Bucket=call.id, VersioningConfiguration={"Status": "Suspended"})


class BucketServerSideEncryptionConfiguration(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketserversideencryptionconfiguration/"""

    rules = Rules(replaces=frozenset({"bucket", "expectedBucketOwner"}))

    def put(self, api: Any, call: Call) -> None:
        rules = []
        for rule in call.inputs["rules"]:
            wanted = rule.get("applyServerSideEncryptionByDefault") or {}
            default = {"SSEAlgorithm": wanted.get("sseAlgorithm")}
            if key := wanted.get("kmsMasterKeyId"):
                default["KMSMasterKeyID"] = key
            rules.append(
                {
                    "ApplyServerSideEncryptionByDefault": default,
                    "BucketKeyEnabled": bool(rule.get("bucketKeyEnabled")),
                }
            )
        api.put_bucket_encryption(
            Bucket=call.inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules}
        )

    def find(self, api: Any, call: Call) -> Object | None:
        found = _setting(api.get_bucket_encryption, call.id)
        if not found:
            return None
        rules = []
        for rule in found["ServerSideEncryptionConfiguration"]["Rules"]:
            default = rule.get("ApplyServerSideEncryptionByDefault", {})
            rules.append(
                {
                    "applyServerSideEncryptionByDefault": {
                        "sseAlgorithm": default.get("SSEAlgorithm"),
                        "kmsMasterKeyId": default.get("KMSMasterKeyID"),
                    },
                    "bucketKeyEnabled": rule.get("BucketKeyEnabled", False),
                }
            )
        return {"bucket": call.id, "rules": rules}

    def remove(self, api: Any, call: Call) -> None:
        api.delete_bucket_encryption(Bucket=call.id)


_BLOCKS = {
    "blockPublicAcls": "BlockPublicAcls",
    "blockPublicPolicy": "BlockPublicPolicy",
    "ignorePublicAcls": "IgnorePublicAcls",
    "restrictPublicBuckets": "RestrictPublicBuckets",
}


class BucketPublicAccessBlock(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketpublicaccessblock/"""

    rules = Rules(replaces=frozenset({"bucket"}))

    def put(self, api: Any, call: Call) -> None:
        wanted = {argument: bool(call.inputs.get(name)) for name, argument in _BLOCKS.items()}
        api.put_public_access_block(Bucket=call.inputs["bucket"], PublicAccessBlockConfiguration=wanted)

    def find(self, api: Any, call: Call) -> Object | None:
        found = _setting(api.get_public_access_block, call.id)
        if not found:
            return None
        block = found["PublicAccessBlockConfiguration"]
        return {"bucket": call.id, **{name: block.get(argument, False) for name, argument in _BLOCKS.items()}}

    def remove(self, api: Any, call: Call) -> None:
        if not call.state.get("skipDestroy"):
            api.delete_public_access_block(Bucket=call.id)


class BucketPolicy(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketpolicy/"""

    rules = Rules(replaces=frozenset({"bucket"}), json=frozenset({"policy"}))

    def put(self, api: Any, call: Call) -> None:
        api.put_bucket_policy(Bucket=call.inputs["bucket"], Policy=call.inputs["policy"])

    def find(self, api: Any, call: Call) -> Object | None:
        found = _setting(api.get_bucket_policy, call.id)
        return {"bucket": call.id, "policy": found["Policy"]} if found else None

    def remove(self, api: Any, call: Call) -> None:
        api.delete_bucket_policy(Bucket=call.id)


class BucketOwnershipControls(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketownershipcontrols/"""

    rules = Rules(replaces=frozenset({"bucket"}))

    def put(self, api: Any, call: Call) -> None:
        rule = {"ObjectOwnership": call.inputs["rule"]["objectOwnership"]}
        api.put_bucket_ownership_controls(Bucket=call.inputs["bucket"], OwnershipControls={"Rules": [rule]})

    def find(self, api: Any, call: Call) -> Object | None:
        found = _setting(api.get_bucket_ownership_controls, call.id)
        if not found:
            return None
        rule = found["OwnershipControls"]["Rules"][0]
        return {"bucket": call.id, "rule": {"objectOwnership": rule["ObjectOwnership"]}}

    def remove(self, api: Any, call: Call) -> None:
        api.delete_bucket_ownership_controls(Bucket=call.id)


class BucketObjectLockConfiguration(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketobjectlockconfiguration/"""

    rules = Rules(replaces=frozenset({"bucket", "expectedBucketOwner"}))
    computed = frozenset({"objectLockEnabled"})

    def put(self, api: Any, call: Call) -> None:
        wanted: Object = {"ObjectLockEnabled": "Enabled"}
        if rule := call.inputs.get("rule"):
            wanted["Rule"] = _pascal(rule)
        api.put_object_lock_configuration(Bucket=call.inputs["bucket"], ObjectLockConfiguration=wanted)

    def find(self, api: Any, call: Call) -> Object | None:
        found = api.get_object_lock_configuration(Bucket=call.id)["ObjectLockConfiguration"]
        rule = {"rule": _camel(found["Rule"])} if found.get("Rule") else {}
        return {"bucket": call.id, "objectLockEnabled": "Enabled", **rule}

    def remove(self, api: Any, call: Call) -> None:
        api.put_object_lock_configuration(
            Bucket=call.id, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )


class BucketLifecycleConfiguration(BucketSetting):
    """https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketlifecycleconfiguration/"""

    rules = Rules(replaces=frozenset({"bucket", "expectedBucketOwner"}))
    computed = frozenset({"transitionDefaultMinimumObjectSize"})

    def put(self, api: Any, call: Call) -> None:
        rules = [_pascal(rule) for rule in call.inputs.get("rules", [])]
        for rule in rules:
            rule.setdefault("Filter", {"Prefix": rule.pop("Prefix", "")})
        api.put_bucket_lifecycle_configuration(
            Bucket=call.inputs["bucket"], LifecycleConfiguration={"Rules": rules}
        )

    def find(self, api: Any, call: Call) -> Object | None:
        found = _setting(api.get_bucket_lifecycle_configuration, call.id)
        return {"bucket": call.id, "rules": [_camel(rule) for rule in found["Rules"]]} if found else None

    def remove(self, api: Any, call: Call) -> None:
        api.delete_bucket_lifecycle(Bucket=call.id)


_SPECIAL = {"id": "ID"}


def _pascal(value: Any) -> Any:
    if isinstance(value, dict):
        return {_SPECIAL.get(key, key[0].upper() + key[1:]): _pascal(item) for key, item in value.items()}
    return [_pascal(item) for item in value] if isinstance(value, list) else value


def _camel(value: Any) -> Any:
    special = {wire: name for name, wire in _SPECIAL.items()}
    if isinstance(value, dict):
        return {special.get(key, key[0].lower() + key[1:]): _camel(item) for key, item in value.items()}
    return [_camel(item) for item in value] if isinstance(value, list) else value


_HEADERS = {
    "acl": "ACL",
    "bucketKeyEnabled": "BucketKeyEnabled",
    "cacheControl": "CacheControl",
    "contentDisposition": "ContentDisposition",
    "contentEncoding": "ContentEncoding",
    "contentLanguage": "ContentLanguage",
    "contentType": "ContentType",
    "kmsKeyId": "SSEKMSKeyId",
    "metadata": "Metadata",
    "serverSideEncryption": "ServerSideEncryption",
    "storageClass": "StorageClass",
    "websiteRedirect": "WebsiteRedirectLocation",
}


class BucketObject(AwsAdapter):
    """Both `BucketObject` and `BucketObjectv2`.

    https://www.pulumi.com/registry/packages/aws/api-docs/s3/bucketobjectv2/
    """

    service = "s3"
    rules = Rules(replaces=frozenset({"bucket", "key"}))
    computed = frozenset(
        {"acl", "bucketKeyEnabled", "contentType", "etag", "kmsKeyId", "serverSideEncryption", "storageClass"}
    )
    volatile = frozenset({"etag", "versionId"})

    def auto_key(self, call: Call) -> str:
        """The object's key: the resource's name unless one is given, as the real provider does it."""
        return str(call.inputs.get("key") or call.name)

    def check(self, call: Call) -> list[Failure]:
        given = [name for name in ("content", "contentBase64", "source") if call.inputs.get(name) is not None]
        if len(given) > 1:
            return [
                Failure(given[1], f"found beside {given[0]}; allowed: one of content, contentBase64, source")
            ]
        return []

    def make(self, api: Any, call: Call) -> str:
        self._put(api, call)
        return f"{call.inputs['bucket']}/{self.auto_key(call)}"

    def change(self, api: Any, call: Call) -> None:
        self._put(api, call)

    def _put(self, api: Any, call: Call) -> None:
        inputs = call.inputs
        headers = {
            argument: inputs[name] for name, argument in _HEADERS.items() if inputs.get(name) is not None
        }
        if tags := inputs.get("tags"):
            headers["Tagging"] = urllib.parse.urlencode(tags)
        if inputs.get("kmsKeyId"):
            headers.setdefault("ServerSideEncryption", "aws:kms")
        api.put_object(Bucket=inputs["bucket"], Key=self.auto_key(call), Body=_body(inputs), **headers)

    def find(self, api: Any, call: Call) -> Object | None:
        bucket, _, key = call.id.partition("/")
        head = api.head_object(Bucket=bucket, Key=key)
        tags = api.get_object_tagging(Bucket=bucket, Key=key).get("TagSet")
        return {
            "arn": f"arn:aws:s3:::{bucket}/{key}",
            "bucket": bucket,
            "key": key,
            "etag": head["ETag"].strip('"'),
            "versionId": head.get("VersionId"),
            "contentType": head.get("ContentType"),
            "serverSideEncryption": head.get("ServerSideEncryption"),
            "kmsKeyId": head.get("SSEKMSKeyId"),
            "bucketKeyEnabled": head.get("BucketKeyEnabled"),
            "storageClass": head.get("StorageClass", "STANDARD"),
            **tag_outputs(tags),
        }

    def remove(self, api: Any, call: Call) -> None:
        bucket, _, key = call.id.partition("/")
        # As the real provider: an object of a versioned bucket goes with all its versions.
        for page in api.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
            for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                if entry["Key"] == key:
                    api.delete_object(Bucket=bucket, Key=key, VersionId=entry["VersionId"])


def _body(inputs: Object) -> bytes:
    """An object's content from `content`, `contentBase64` or the asset in `source`."""
    if (text := inputs.get("content")) is not None:
        return str(text).encode()
    if (encoded := inputs.get("contentBase64")) is not None:
        return base64.b64decode(encoded)
    source = inputs.get("source")
    if source is None or has_unknown(source):
        return b""
    if "text" in source:
        return str(source["text"]).encode()
    if "path" in source:
        return Path(source["path"]).read_bytes()
    raise ProviderError("source: found an asset at an address; allowed in the sandbox: a file or a text")
