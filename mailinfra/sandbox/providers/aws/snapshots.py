"""Snapshots of volumes, and the policies that make them on a schedule."""

from collections.abc import Mapping
from typing import Any

from mailinfra.sandbox.control import ControlError
from mailinfra.sandbox.providers.aws.adapter import AwsAdapter, arn, region_of, tag_outputs
from mailinfra.sandbox.providers.aws.ec2 import Ec2Adapter, given
from mailinfra.sandbox.providers.base import Call, unique
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object


class Snapshot(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ebs/snapshot/"""

    kind = "snapshot"
    rules = Rules(replaces=frozenset({"volumeId", "description", "outpostArn"}))
    computed = frozenset({"storageTier"})

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_snapshot(
            **given(call, VolumeId="volumeId", Description="description"), **self.tag_specifications(call)
        )
        return str(answer["SnapshotId"])

    def change(self, api: Any, call: Call) -> None:
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        found = api.describe_snapshots(SnapshotIds=[call.id])["Snapshots"][0]
        return {
            "arn": arn(call, "ec2", f"snapshot/{call.id}"),
            "description": found.get("Description") or None,
            "encrypted": found.get("Encrypted", False),
            "kmsKeyId": found.get("KmsKeyId"),
            "ownerId": found["OwnerId"],
            "storageTier": "standard",
            "volumeId": found["VolumeId"],
            "volumeSize": found["VolumeSize"],
            **tag_outputs(found.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_snapshot(SnapshotId=call.id)


class LifecyclePolicy(AwsAdapter):
    """Kept and run by the daemon (`mailinfra.sandbox.aws.dlm`): moto has no Data Lifecycle Manager.

    https://www.pulumi.com/registry/packages/aws/api-docs/dlm/lifecyclepolicy/
    """

    service = "ec2"
    rules = Rules(replaces=frozenset({"defaultPolicy"}))

    def make(self, api: Any, call: Call) -> str:
        identifier = f"policy-{unique(f'{call.urn} {region_of(call)}', 17)}"
        self._check_role(call)
        self._put(call, identifier)
        return identifier

    def change(self, api: Any, call: Call) -> None:
        self._check_role(call)
        self._put(call, call.id)

    @staticmethod
    def _check_role(call: Call) -> None:
        """As the service does: a role that it cannot assume is an error now, not a snapshot that is missed."""
        from mailinfra.sandbox.aws.service import trusts

        role = str(call.inputs["executionRoleArn"])
        found = call.cloud.client("iam", region_of(call)).get_role(RoleName=role.rpartition("/")[2])["Role"]
        if not trusts(found["AssumeRolePolicyDocument"], "dlm.amazonaws.com"):
            raise ProviderError(f"CreateLifecyclePolicy: {role} does not let dlm.amazonaws.com assume it")

    @staticmethod
    def _put(call: Call, identifier: str) -> None:
        policy = {
            "region": region_of(call),
            "state": call.inputs.get("state", "ENABLED"),
            "details": call.inputs["policyDetails"],
            "role": call.inputs["executionRoleArn"],
            "description": call.inputs["description"],
            "tags": call.inputs.get("tags", {}),
        }
        try:
            call.cloud.control.call("aws.put_lifecycle_policy", id=identifier, policy=policy)
        except ControlError as error:
            raise ProviderError(f"PutLifecyclePolicy: {error}") from error

    def find(self, api: Any, call: Call) -> Object | None:
        found: Mapping[str, Any] | None = call.cloud.control.call("aws.get_lifecycle_policy", id=call.id)
        if found is None:
            return None
        return {
            "arn": arn(call, "dlm", f"policy/{call.id}"),
            "description": found["description"],
            "executionRoleArn": found["role"],
            "policyDetails": found["details"],
            "state": found["state"],
            "tags": found["tags"],
            "tagsAll": found["tags"],
        }

    def remove(self, api: Any, call: Call) -> None:
        call.cloud.control.call("aws.delete_lifecycle_policy", id=call.id)
