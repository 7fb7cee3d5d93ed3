"""Keys, their aliases and replicas in KMS."""

from typing import Any

from mailinfra.sandbox.providers.aws.adapter import (
    AwsAdapter,
    known,
    region_of,
    removed_tags,
    tag_outputs,
)
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

_DELETION_DAYS = (7, 30)
_ROTATION_DAYS = (90, 2560)


def _tags(tags: dict[str, str] | None) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": value} for key, value in (tags or {}).items()]


def _range(call: Call, name: str, bounds: tuple[int, int]) -> list[Failure]:
    value = call.inputs.get(name)
    if known(value) and isinstance(value, int) and not bounds[0] <= value <= bounds[1]:
        return [Failure(name, f"found {value}; allowed: {bounds[0]} to {bounds[1]} days")]
    return []


class Key(AwsAdapter):
    """Every kind of key that moto makes: symmetric, RSA, elliptic curves, HMAC.

    https://www.pulumi.com/registry/packages/aws/api-docs/kms/key/
    """

    service = "kms"
    rules = Rules(
        replaces=frozenset(
            {"customerMasterKeySpec", "keyUsage", "multiRegion", "customKeyStoreId", "xksKeyId"}
        ),
        json=frozenset({"policy"}),
    )
    computed = frozenset({"description", "multiRegion", "policy", "rotationPeriodInDays"})

    def check(self, call: Call) -> list[Failure]:
        failures = _range(call, "deletionWindowInDays", _DELETION_DAYS)
        failures += _range(call, "rotationPeriodInDays", _ROTATION_DAYS)
        symmetric = call.inputs.get("customerMasterKeySpec") in (None, "SYMMETRIC_DEFAULT")
        if call.inputs.get("enableKeyRotation") is True and not symmetric:
            failures.append(Failure("enableKeyRotation", "found true; allowed: true for symmetric keys only"))
        return failures

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        answer = api.create_key(
            KeySpec=inputs.get("customerMasterKeySpec", "SYMMETRIC_DEFAULT"),
            KeyUsage=inputs.get("keyUsage", "ENCRYPT_DECRYPT"),
            Description=inputs.get("description", ""),
            MultiRegion=inputs.get("multiRegion", False),
            Tags=_tags(inputs.get("tags")),
            **({"Policy": inputs["policy"]} if inputs.get("policy") else {}),
        )
        return str(answer["KeyMetadata"]["KeyId"])

    def set_up(self, api: Any, call: Call) -> None:
        if call.inputs.get("enableKeyRotation"):
            days = call.inputs.get("rotationPeriodInDays")
            api.enable_key_rotation(KeyId=call.id, **({"RotationPeriodInDays": days} if days else {}))
        if call.inputs.get("isEnabled") is False:
            api.disable_key(KeyId=call.id)

    def change(self, api: Any, call: Call) -> None:
        if call.changed("isEnabled") and call.inputs.get("isEnabled", True):
            api.enable_key(KeyId=call.id)
        if call.changed("description"):
            api.update_key_description(KeyId=call.id, Description=call.inputs.get("description", ""))
        if call.changed("policy") and call.inputs.get("policy"):
            api.put_key_policy(KeyId=call.id, PolicyName="default", Policy=call.inputs["policy"])
        if call.changed("enableKeyRotation") and not call.inputs.get("enableKeyRotation"):
            api.disable_key_rotation(KeyId=call.id)
        if call.changed("tags"):
            if removed := removed_tags(call):
                api.untag_resource(KeyId=call.id, TagKeys=removed)
            if tags := _tags(call.inputs.get("tags")):
                api.tag_resource(KeyId=call.id, Tags=tags)
        self.set_up(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        key = api.describe_key(KeyId=call.id)["KeyMetadata"]
        if key["KeyState"] == "PendingDeletion":
            return None
        found: Object = {
            "arn": key["Arn"],
            "keyId": key["KeyId"],
            "customerMasterKeySpec": key["KeySpec"],
            "keyUsage": key["KeyUsage"],
            "description": key.get("Description", ""),
            "isEnabled": key["Enabled"],
            "multiRegion": key.get("MultiRegion", False),
            "policy": api.get_key_policy(KeyId=call.id, PolicyName="default")["Policy"],
            "enableKeyRotation": False,
            **tag_outputs(_plain_tags(api, call.id)),
        }
        if key["KeySpec"] == "SYMMETRIC_DEFAULT":
            rotation = api.get_key_rotation_status(KeyId=call.id)
            found["enableKeyRotation"] = rotation["KeyRotationEnabled"]
            found["rotationPeriodInDays"] = rotation.get("RotationPeriodInDays")
        return found

    def remove(self, api: Any, call: Call) -> None:
        if api.describe_key(KeyId=call.id)["KeyMetadata"]["KeyState"] == "PendingDeletion":
            return
        days = call.state.get("deletionWindowInDays") or _DELETION_DAYS[1]
        api.schedule_key_deletion(KeyId=call.id, PendingWindowInDays=days)


def _plain_tags(api: Any, identifier: str) -> list[dict[str, str]]:
    tags = api.list_resource_tags(KeyId=identifier)["Tags"]
    return [{"Key": tag["TagKey"], "Value": tag["TagValue"]} for tag in tags]


class Alias(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/kms/alias/"""

    service = "kms"
    rules = Rules(replaces=frozenset({"name", "namePrefix"}))

    def check(self, call: Call) -> list[Failure]:
        name = call.inputs.get("name")
        if known(name) and not str(name).startswith("alias/"):
            return [Failure("name", f"found {name!r}; allowed: a name that begins with 'alias/'")]
        return []

    def make(self, api: Any, call: Call) -> str:
        api.create_alias(AliasName=call.inputs["name"], TargetKeyId=call.inputs["targetKeyId"])
        return str(call.inputs["name"])

    def change(self, api: Any, call: Call) -> None:
        api.update_alias(AliasName=call.id, TargetKeyId=call.inputs["targetKeyId"])

    def find(self, api: Any, call: Call) -> Object | None:
        for page in api.get_paginator("list_aliases").paginate():
            for alias in page["Aliases"]:
                if alias["AliasName"] == call.id and alias.get("TargetKeyId"):
                    target = alias["TargetKeyId"]
                    target_arn = api.describe_key(KeyId=target)["KeyMetadata"]["Arn"]
                    given = (call.inputs or call.state).get("targetKeyId")
                    return {
                        "arn": alias["AliasArn"],
                        "name": alias["AliasName"],
                        # Either form names the same key; the one that was given is kept.
                        "targetKeyId": given if given in (target, target_arn) else target,
                        "targetKeyArn": target_arn,
                    }
        return None

    def remove(self, api: Any, call: Call) -> None:
        api.delete_alias(AliasName=call.id)


class ReplicaKey(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/kms/replicakey/"""

    service = "kms"
    rules = Rules(replaces=frozenset({"primaryKeyArn"}), json=frozenset({"policy"}))
    computed = frozenset({"policy"})

    def make(self, api: Any, call: Call) -> str:
        primary = str(call.inputs["primaryKeyArn"])
        parts = primary.split(":")
        if len(parts) != 6:
            raise ProviderError(f"ReplicaKey.primaryKeyArn: found {primary!r}; allowed: the ARN of a key")
        answer = call.cloud.client("kms", parts[3]).replicate_key(
            KeyId=parts[5].removeprefix("key/"),
            ReplicaRegion=region_of(call),
            Description=call.inputs.get("description", ""),
            Tags=_tags(call.inputs.get("tags")),
            **({"Policy": call.inputs["policy"]} if call.inputs.get("policy") else {}),
        )
        return str(answer["ReplicaKeyMetadata"]["KeyId"])

    def change(self, api: Any, call: Call) -> None:
        Key().change(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        found = Key().find(api, call)
        if found is None:
            return None
        return {
            "arn": found["arn"],
            "keyId": found["keyId"],
            "keySpec": found["customerMasterKeySpec"],
            "keyUsage": found["keyUsage"],
            "keyRotationEnabled": found["enableKeyRotation"],
            "enabled": found["isEnabled"],
            "description": found["description"],
            "policy": found["policy"],
            "tags": found["tags"],
            "tagsAll": found["tagsAll"],
        }

    def remove(self, api: Any, call: Call) -> None:
        Key().remove(api, call)
