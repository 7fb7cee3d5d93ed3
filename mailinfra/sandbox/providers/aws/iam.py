"""Roles, policies and instance profiles."""

import json
import urllib.parse
from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.providers.aws.adapter import (
    AwsAdapter,
    known,
    removed_tags,
    tag_list,
    tag_outputs,
)
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object


def document(value: Any) -> str:
    """A policy document as text; IAM gives it URL-encoded or parsed."""
    return json.dumps(value) if isinstance(value, dict) else urllib.parse.unquote(str(value))


def _is_json(call: Call, name: str) -> list[Failure]:
    value = call.inputs.get(name)
    if not known(value):
        return []
    try:
        json.loads(str(value))
    except ValueError as error:
        return [Failure(name, f"found no JSON ({error}); allowed: a policy document")]
    return []


class Role(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/iam/role/"""

    service = "iam"
    rules = Rules(
        replaces=frozenset({"name", "namePrefix", "path"}),
        json=frozenset({"assumeRolePolicy"}),
        unordered=frozenset({"managedPolicyArns", "inlinePolicies"}),
    )
    computed = frozenset({"maxSessionDuration", "path", "managedPolicyArns", "inlinePolicies", "namePrefix"})

    def check(self, call: Call) -> list[Failure]:
        failures = _is_json(call, "assumeRolePolicy")
        for name in ("inlinePolicies", "managedPolicyArns"):
            if call.inputs.get(name):
                failures.append(
                    Failure(
                        name,
                        "found a value; allowed in the sandbox: RolePolicy or RolePolicyAttachment instead",
                    )
                )
        return failures

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        optional = {
            "Description": inputs.get("description"),
            "MaxSessionDuration": inputs.get("maxSessionDuration"),
            "PermissionsBoundary": inputs.get("permissionsBoundary"),
        }
        answer = api.create_role(
            RoleName=inputs["name"],
            Path=inputs.get("path", "/"),
            AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
            Tags=tag_list(inputs.get("tags")),
            **{key: value for key, value in optional.items() if value},
        )
        return str(answer["Role"]["RoleName"])

    def change(self, api: Any, call: Call) -> None:
        inputs = call.inputs
        if call.changed("assumeRolePolicy"):
            api.update_assume_role_policy(RoleName=call.id, PolicyDocument=inputs["assumeRolePolicy"])
        if call.changed("description", "maxSessionDuration"):
            api.update_role(
                RoleName=call.id,
                Description=inputs.get("description", ""),
                MaxSessionDuration=inputs.get("maxSessionDuration", 3600),
            )
        if call.changed("permissionsBoundary"):
            if boundary := inputs.get("permissionsBoundary"):
                api.put_role_permissions_boundary(RoleName=call.id, PermissionsBoundary=boundary)
            else:
                api.delete_role_permissions_boundary(RoleName=call.id)
        if call.changed("tags"):
            if removed := removed_tags(call):
                api.untag_role(RoleName=call.id, TagKeys=removed)
            if tags := tag_list(inputs.get("tags")):
                api.tag_role(RoleName=call.id, Tags=tags)

    def find(self, api: Any, call: Call) -> Object | None:
        role = api.get_role(RoleName=call.id)["Role"]
        return {
            "arn": role["Arn"],
            "name": role["RoleName"],
            "path": role["Path"],
            "uniqueId": role["RoleId"],
            "createDate": role["CreateDate"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "description": role.get("Description"),
            "maxSessionDuration": role.get("MaxSessionDuration"),
            "assumeRolePolicy": document(role["AssumeRolePolicyDocument"]),
            "permissionsBoundary": (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
            **tag_outputs(role.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        if call.state.get("forceDetachPolicies"):
            for policy in api.list_attached_role_policies(RoleName=call.id)["AttachedPolicies"]:
                api.detach_role_policy(RoleName=call.id, PolicyArn=policy["PolicyArn"])
            for name in api.list_role_policies(RoleName=call.id)["PolicyNames"]:
                api.delete_role_policy(RoleName=call.id, PolicyName=name)
        # As the real provider: a role leaves the profiles that it is in before it goes.
        for profile in api.list_instance_profiles_for_role(RoleName=call.id)["InstanceProfiles"]:
            api.remove_role_from_instance_profile(
                InstanceProfileName=profile["InstanceProfileName"], RoleName=call.id
            )
        api.delete_role(RoleName=call.id)


class RolePolicy(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/iam/rolepolicy/"""

    service = "iam"
    rules = Rules(replaces=frozenset({"name", "namePrefix", "role"}), json=frozenset({"policy"}))
    computed = frozenset({"namePrefix"})

    def check(self, call: Call) -> list[Failure]:
        return _is_json(call, "policy")

    def make(self, api: Any, call: Call) -> str:
        self._put(api, call)
        return f"{call.inputs['role']}:{call.inputs['name']}"

    @staticmethod
    def _put(api: Any, call: Call) -> None:
        api.put_role_policy(
            RoleName=call.inputs["role"], PolicyName=call.inputs["name"], PolicyDocument=call.inputs["policy"]
        )

    def change(self, api: Any, call: Call) -> None:
        self._put(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        role, _, name = call.id.partition(":")
        found = api.get_role_policy(RoleName=role, PolicyName=name)
        return {"role": role, "name": name, "policy": document(found["PolicyDocument"])}

    def remove(self, api: Any, call: Call) -> None:
        role, _, name = call.id.partition(":")
        api.delete_role_policy(RoleName=role, PolicyName=name)


class Policy(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/iam/policy/"""

    service = "iam"
    rules = Rules(
        replaces=frozenset({"name", "namePrefix", "path", "description"}), json=frozenset({"policy"})
    )
    computed = frozenset({"path", "namePrefix"})

    def check(self, call: Call) -> list[Failure]:
        return _is_json(call, "policy")

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_policy(
            PolicyName=call.inputs["name"],
            Path=call.inputs.get("path", "/"),
            PolicyDocument=call.inputs["policy"],
            Description=call.inputs.get("description", ""),
            Tags=tag_list(call.inputs.get("tags")),
        )
        return str(answer["Policy"]["Arn"])

    def change(self, api: Any, call: Call) -> None:
        if call.changed("policy"):
            self._forget_old_versions(api, call.id, keep=4)
            api.create_policy_version(
                PolicyArn=call.id, PolicyDocument=call.inputs["policy"], SetAsDefault=True
            )
        if call.changed("tags"):
            if removed := removed_tags(call):
                api.untag_policy(PolicyArn=call.id, TagKeys=removed)
            if tags := tag_list(call.inputs.get("tags")):
                api.tag_policy(PolicyArn=call.id, Tags=tags)

    @staticmethod
    def _forget_old_versions(api: Any, policy: str, keep: int) -> None:
        versions = api.list_policy_versions(PolicyArn=policy)["Versions"]
        others = sorted((v for v in versions if not v["IsDefaultVersion"]), key=lambda v: v["CreateDate"])
        # A policy has at most 5 versions, the default one among them.
        for version in others[: max(0, len(versions) - keep)]:
            api.delete_policy_version(PolicyArn=policy, VersionId=version["VersionId"])

    def find(self, api: Any, call: Call) -> Object | None:
        policy = api.get_policy(PolicyArn=call.id)["Policy"]
        version = api.get_policy_version(PolicyArn=call.id, VersionId=policy["DefaultVersionId"])[
            "PolicyVersion"
        ]
        return {
            "arn": policy["Arn"],
            "name": policy["PolicyName"],
            "path": policy["Path"],
            "policyId": policy["PolicyId"],
            "attachmentCount": policy.get("AttachmentCount"),
            "description": policy.get("Description") or None,
            "policy": document(version["Document"]),
            **tag_outputs(policy.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        self._forget_old_versions(api, call.id, keep=1)
        api.delete_policy(PolicyArn=call.id)


class RolePolicyAttachment(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/iam/rolepolicyattachment/"""

    service = "iam"
    rules = Rules(replaces=frozenset({"role", "policyArn"}))

    def make(self, api: Any, call: Call) -> str:
        api.attach_role_policy(RoleName=call.inputs["role"], PolicyArn=call.inputs["policyArn"])
        return f"{call.inputs['role']}/{call.inputs['policyArn']}"

    def find(self, api: Any, call: Call) -> Object | None:
        role, _, policy = call.id.partition("/")
        attached = api.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        if all(entry["PolicyArn"] != policy for entry in attached):
            return None
        return {"role": role, "policyArn": policy}

    def remove(self, api: Any, call: Call) -> None:
        role, _, policy = call.id.partition("/")
        api.detach_role_policy(RoleName=role, PolicyArn=policy)


class InstanceProfile(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/iam/instanceprofile/"""

    service = "iam"
    rules = Rules(replaces=frozenset({"name", "namePrefix", "path"}))
    computed = frozenset({"path", "namePrefix"})

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_instance_profile(
            InstanceProfileName=call.inputs["name"],
            Path=call.inputs.get("path", "/"),
            Tags=tag_list(call.inputs.get("tags")),
        )
        return str(answer["InstanceProfile"]["InstanceProfileName"])

    def set_up(self, api: Any, call: Call) -> None:
        profile = api.get_instance_profile(InstanceProfileName=call.id)["InstanceProfile"]
        held = next((role["RoleName"] for role in profile["Roles"]), None)
        wanted = call.inputs.get("role")
        if held and held != wanted:
            api.remove_role_from_instance_profile(InstanceProfileName=call.id, RoleName=held)
        if wanted and held != wanted:
            api.add_role_to_instance_profile(InstanceProfileName=call.id, RoleName=wanted)

    def change(self, api: Any, call: Call) -> None:
        self.set_up(api, call)
        if call.changed("tags"):
            if removed := removed_tags(call):
                api.untag_instance_profile(InstanceProfileName=call.id, TagKeys=removed)
            if tags := tag_list(call.inputs.get("tags")):
                api.tag_instance_profile(InstanceProfileName=call.id, Tags=tags)

    def find(self, api: Any, call: Call) -> Object | None:
        profile = api.get_instance_profile(InstanceProfileName=call.id)["InstanceProfile"]
        return {
            "arn": profile["Arn"],
            "name": profile["InstanceProfileName"],
            "path": profile["Path"],
            "uniqueId": profile["InstanceProfileId"],
            "createDate": profile["CreateDate"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "role": next((role["RoleName"] for role in profile["Roles"]), None),
            **tag_outputs(profile.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        profile = api.get_instance_profile(InstanceProfileName=call.id)["InstanceProfile"]
        for role in profile["Roles"]:
            api.remove_role_from_instance_profile(InstanceProfileName=call.id, RoleName=role["RoleName"])
        api.delete_instance_profile(InstanceProfileName=call.id)


def role_of_profile(api: Any, profile: str) -> str:
    """The name of the role in an instance profile (given by name or ARN). Raises `ProviderError` if it has none."""
    name = profile.rpartition("/")[2]
    roles = api.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    if not roles:
        raise ProviderError(f"instance profile {name} in account {ACCOUNT} has no role")
    return str(roles[0]["RoleName"])
