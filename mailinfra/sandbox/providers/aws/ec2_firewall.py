"""Security groups, their rules, and prefix lists."""

from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.providers.aws.adapter import arn, region_of, tag_list, tag_outputs
from mailinfra.sandbox.providers.aws.ec2 import Ec2Adapter, given
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

_INLINE = "found a value; allowed in the sandbox: resources aws.vpc.SecurityGroup{}Rule instead"


def _no_inline(call: Call) -> list[Failure]:
    return [
        Failure(name, _INLINE.format(name.capitalize()))
        for name in ("ingress", "egress")
        if call.inputs.get(name)
    ]


def _revoke(api: Any, group: Object, ingress: bool = True) -> None:
    if ingress and group.get("IpPermissions"):
        api.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
    if group.get("IpPermissionsEgress"):
        api.revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=group["IpPermissionsEgress"])


class SecurityGroup(Ec2Adapter):
    """Its rules are resources of their own; inline ones are refused.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/securitygroup/
    """

    kind = "security-group"
    rules = Rules(replaces=frozenset({"name", "namePrefix", "description", "vpcId"}))
    computed = frozenset({"egress", "ingress", "namePrefix", "vpcId"})

    def check(self, call: Call) -> list[Failure]:
        return _no_inline(call)

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_security_group(
            GroupName=call.inputs["name"],
            Description=call.inputs.get("description", "Managed by Pulumi"),
            **given(call, VpcId="vpcId"),
            **self.tag_specifications(call),
        )
        return str(answer["GroupId"])

    def set_up(self, api: Any, call: Call) -> None:
        # As the real provider: a new group starts without EC2's rule that lets everything out.
        _revoke(api, api.describe_security_groups(GroupIds=[call.id])["SecurityGroups"][0], ingress=False)

    def change(self, api: Any, call: Call) -> None:
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        group = api.describe_security_groups(GroupIds=[call.id])["SecurityGroups"][0]
        return {
            "arn": arn(call, "ec2", f"security-group/{call.id}"),
            "name": group["GroupName"],
            "description": group["Description"],
            "ownerId": group.get("OwnerId", ACCOUNT),
            "vpcId": group.get("VpcId"),
            **tag_outputs(group.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        if call.state.get("revokeRulesOnDelete"):
            _revoke(api, api.describe_security_groups(GroupIds=[call.id])["SecurityGroups"][0])
        api.delete_security_group(GroupId=call.id)


class DefaultSecurityGroup(Ec2Adapter):
    """Takes a VPC's default group over and empties it; nothing is deleted in the end.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/defaultsecuritygroup/
    """

    kind = "security-group"
    rules = Rules(replaces=frozenset({"vpcId"}))
    computed = frozenset({"vpcId"})

    def check(self, call: Call) -> list[Failure]:
        return _no_inline(call)

    def make(self, api: Any, call: Call) -> str:
        filters = [{"Name": "group-name", "Values": ["default"]}]
        if vpc := call.inputs.get("vpcId"):
            filters.append({"Name": "vpc-id", "Values": [vpc]})
        found = api.describe_security_groups(Filters=filters)["SecurityGroups"]
        if not found:
            raise ProviderError(
                f"DefaultSecurityGroup: VPC {vpc or '(default)'} has no default security group"
            )
        return str(found[0]["GroupId"])

    def set_up(self, api: Any, call: Call) -> None:
        _revoke(api, api.describe_security_groups(GroupIds=[call.id])["SecurityGroups"][0])
        if tags := tag_list(call.inputs.get("tags")):
            api.create_tags(Resources=[call.id], Tags=tags)

    def change(self, api: Any, call: Call) -> None:
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        return SecurityGroup().find(api, call)

    def remove(self, api: Any, call: Call) -> None:
        pass


class SecurityGroupRule(Ec2Adapter):
    """`SecurityGroupIngressRule` and `SecurityGroupEgressRule`.

    https://www.pulumi.com/registry/packages/aws/api-docs/vpc/securitygroupingressrule/
    """

    kind = "security-group-rule"
    rules = Rules(replaces=frozenset({"securityGroupId"}))
    _sources = ("cidrIpv4", "cidrIpv6", "prefixListId", "referencedSecurityGroupId")

    def __init__(self, direction: str) -> None:
        self._direction = direction

    def check(self, call: Call) -> list[Failure]:
        found = [name for name in self._sources if call.inputs.get(name)]
        if len(found) == 1:
            return []
        return [
            Failure(
                self._sources[0],
                f"found {' and '.join(found) or 'none'}; allowed: one of {', '.join(self._sources)}",
            )
        ]

    def _permission(self, call: Call) -> Object:
        inputs = call.inputs
        entry = {"Description": inputs["description"]} if inputs.get("description") else {}
        permission: Object = {
            "IpProtocol": inputs["ipProtocol"],
            "FromPort": inputs.get("fromPort", -1),
            "ToPort": inputs.get("toPort", -1),
        }
        if cidr := inputs.get("cidrIpv4"):
            permission["IpRanges"] = [{"CidrIp": cidr, **entry}]
        elif cidr := inputs.get("cidrIpv6"):
            permission["Ipv6Ranges"] = [{"CidrIpv6": cidr, **entry}]
        elif prefix_list := inputs.get("prefixListId"):
            permission["PrefixListIds"] = [{"PrefixListId": prefix_list, **entry}]
        else:
            permission["UserIdGroupPairs"] = [{"GroupId": inputs["referencedSecurityGroupId"], **entry}]
        return permission

    def make(self, api: Any, call: Call) -> str:
        authorize = getattr(api, f"authorize_security_group_{self._direction}")
        with call.cloud.locks.of(call.inputs["securityGroupId"]):
            answer = authorize(
                GroupId=call.inputs["securityGroupId"],
                IpPermissions=[self._permission(call)],
                **self.tag_specifications(call),
            )
        return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def set_up(self, api: Any, call: Call) -> None:
        call.cloud.machines.sync(region_of(call))

    def change(self, api: Any, call: Call) -> None:
        names = ("ipProtocol", "fromPort", "toPort", "description", *self._sources)
        if call.changed(*names):
            # EC2 changes a rule in place and keeps its id.
            wanted = {
                "IpProtocol": call.inputs["ipProtocol"],
                "FromPort": call.inputs.get("fromPort", -1),
                "ToPort": call.inputs.get("toPort", -1),
                **given(
                    call,
                    Description="description",
                    CidrIpv4="cidrIpv4",
                    CidrIpv6="cidrIpv6",
                    PrefixListId="prefixListId",
                    ReferencedGroupId="referencedSecurityGroupId",
                ),
            }
            with call.cloud.locks.of(call.inputs["securityGroupId"]):
                api.modify_security_group_rules(
                    GroupId=call.inputs["securityGroupId"],
                    SecurityGroupRules=[{"SecurityGroupRuleId": call.id, "SecurityGroupRule": wanted}],
                )
        self.change_tags(api, call)
        call.cloud.machines.sync(region_of(call))

    def find(self, api: Any, call: Call) -> Object | None:
        found = api.describe_security_group_rules(SecurityGroupRuleIds=[call.id])["SecurityGroupRules"]
        if not found:
            return None
        rule = found[0]
        ports = {
            name: rule[key]
            for name, key in (("fromPort", "FromPort"), ("toPort", "ToPort"))
            if rule.get(key, -1) != -1
        }
        return {
            "arn": arn(call, "ec2", f"security-group-rule/{call.id}"),
            "securityGroupRuleId": call.id,
            "securityGroupId": rule["GroupId"],
            "ipProtocol": rule["IpProtocol"],
            **ports,
            "cidrIpv4": rule.get("CidrIpv4"),
            "cidrIpv6": rule.get("CidrIpv6"),
            "prefixListId": rule.get("PrefixListId"),
            "referencedSecurityGroupId": (rule.get("ReferencedGroupInfo") or {}).get("GroupId"),
            "description": rule.get("Description") or None,
            **tag_outputs(rule.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        revoke = getattr(api, f"revoke_security_group_{self._direction}")
        group = call.state["securityGroupId"]
        with call.cloud.locks.of(group):
            revoke(GroupId=group, SecurityGroupRuleIds=[call.id])
        call.cloud.machines.sync(region_of(call))


class ManagedPrefixList(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/managedprefixlist/"""

    kind = "prefix-list"
    rules = Rules(replaces=frozenset({"addressFamily"}), unordered=frozenset({"entries"}))
    computed = frozenset({"entries"})
    volatile = frozenset({"version"})

    def check(self, call: Call) -> list[Failure]:
        entries, limit = call.inputs.get("entries"), call.inputs.get("maxEntries")
        if isinstance(entries, list) and isinstance(limit, int) and len(entries) > limit:
            return [Failure("entries", f"found {len(entries)} entries; allowed: maxEntries = {limit}")]
        return []

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_managed_prefix_list(
            PrefixListName=call.inputs["name"],
            AddressFamily=call.inputs["addressFamily"],
            MaxEntries=call.inputs["maxEntries"],
            Entries=[_entry(entry) for entry in call.inputs.get("entries", [])],
            **self.tag_specifications(call),
        )
        return str(answer["PrefixList"]["PrefixListId"])

    def change(self, api: Any, call: Call) -> None:
        with call.cloud.locks.of(call.id):
            if call.changed("entries") and "entries" in call.inputs:
                change_entries(api, call.id, call.inputs["entries"])
            if call.changed("name", "maxEntries"):
                modify_list(
                    api, call.id, PrefixListName=call.inputs["name"], MaxEntries=call.inputs["maxEntries"]
                )
        self.change_tags(api, call)
        call.cloud.machines.sync(region_of(call))

    def find(self, api: Any, call: Call) -> Object | None:
        prefix_list = _list(api, call.id)
        if prefix_list is None:
            return None
        return {
            "arn": prefix_list["PrefixListArn"],
            "name": prefix_list["PrefixListName"],
            "addressFamily": prefix_list["AddressFamily"],
            "ownerId": prefix_list.get("OwnerId", ACCOUNT),
            "version": prefix_list["Version"],
            "entries": [
                {"cidr": entry["Cidr"], "description": entry.get("Description") or None}
                for entry in entries_of(api, call.id)
            ],
            **tag_outputs(prefix_list.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_managed_prefix_list(PrefixListId=call.id)


def _entry(entry: Object) -> Object:
    return {
        "Cidr": entry["cidr"],
        **({"Description": entry["description"]} if entry.get("description") else {}),
    }


def entries_of(api: Any, identifier: str) -> list[Object]:
    """The entries of a prefix list."""
    pages = api.get_paginator("get_managed_prefix_list_entries").paginate(PrefixListId=identifier)
    return [entry for page in pages for entry in page.get("Entries", [])]


def _list(api: Any, identifier: str) -> Object | None:
    found = api.describe_managed_prefix_lists(PrefixListIds=[identifier])["PrefixLists"]
    # A deleted list is still described for a while.
    return next((entry for entry in found if not entry["State"].startswith("delete")), None)


def modify_list(api: Any, identifier: str, **changes: Any) -> None:
    """Change a prefix list as it is now. The caller holds the list's lock: EC2 refuses changes of an old version."""
    current = _list(api, identifier)
    if current is None:
        raise ProviderError(f"prefix list {identifier} does not exist")
    name = current["PrefixListName"]  # moto forgets it unless it is repeated.
    api.modify_managed_prefix_list(
        PrefixListId=identifier, CurrentVersion=current["Version"], **{"PrefixListName": name, **changes}
    )


def change_entries(api: Any, identifier: str, wanted: list[Object]) -> None:
    """Bring a prefix list's entries to those wanted, in one change."""
    now = {entry["Cidr"]: entry.get("Description") or "" for entry in entries_of(api, identifier)}
    then = {entry["cidr"]: entry.get("description") or "" for entry in wanted}
    added = [_entry(entry) for entry in wanted if now.get(entry["cidr"]) != (entry.get("description") or "")]
    removed = [{"Cidr": cidr} for cidr, text in now.items() if then.get(cidr) != text]
    changes = {key: value for key, value in (("AddEntries", added), ("RemoveEntries", removed)) if value}
    if changes:
        modify_list(api, identifier, **changes)


class ManagedPrefixListEntry(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/managedprefixlistentry/"""

    rules = Rules(replaces=frozenset({"cidr", "description", "prefixListId"}))

    def _modify(self, api: Any, call: Call, wanted: list[Object] | None) -> None:
        identifier = str((call.inputs or call.state)["prefixListId"])
        cidr = (call.inputs or call.state)["cidr"]
        with call.cloud.locks.of(identifier):
            current = api.describe_managed_prefix_lists(PrefixListIds=[identifier])["PrefixLists"][0]
            changes: Object = {"AddEntries": wanted} if wanted else {"RemoveEntries": [{"Cidr": cidr}]}
            api.modify_managed_prefix_list(
                PrefixListId=identifier, CurrentVersion=current["Version"], **changes
            )
        call.cloud.machines.sync(region_of(call))

    def make(self, api: Any, call: Call) -> str:
        self._modify(api, call, [_entry(call.inputs)])
        return f"{call.inputs['prefixListId']},{call.inputs['cidr']}"

    def find(self, api: Any, call: Call) -> Object | None:
        identifier, _, cidr = call.id.partition(",")
        for entry in entries_of(api, identifier):
            if entry["Cidr"] == cidr:
                return {
                    "prefixListId": identifier,
                    "cidr": cidr,
                    "description": entry.get("Description") or None,
                }
        return None

    def remove(self, api: Any, call: Call) -> None:
        self._modify(api, call, None)
