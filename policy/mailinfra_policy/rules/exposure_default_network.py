"""Nothing runs in a network, a security group or under an identity that was there by default."""

import re
from collections.abc import Iterator, Mapping

from mailinfra_policy.expect import absent, holds, is_false, present, unknown
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ADOPTED = frozenset({"aws:ec2/defaultVpc:DefaultVpc", "aws:ec2/defaultSubnet:DefaultSubnet"})
_DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
_PLACED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aws:ec2/instance:Instance": (
        ("subnetId", "vpcSecurityGroupIds"),
        ("networkInterfaces", "primaryNetworkInterface", "launchTemplate"),
    ),
    "aws:ec2/securityGroup:SecurityGroup": (("vpcId",), ()),
    "aws:rds/instance:Instance": (("dbSubnetGroupName", "vpcSecurityGroupIds"), ("replicateSourceDb",)),
    "aws:rds/cluster:Cluster": (("dbSubnetGroupName", "vpcSecurityGroupIds"), ()),
    "aws:redshift/cluster:Cluster": (("clusterSubnetGroupName", "vpcSecurityGroupIds"), ()),
    "aws:elasticache/replicationGroup:ReplicationGroup": (("subnetGroupName", "securityGroupIds"), ()),
    "aws:efs/mountTarget:MountTarget": (("securityGroups",), ()),
    "aws:lb/loadBalancer:LoadBalancer": (("securityGroups",), ()),
}
"""What AWS puts into the default VPC or group unless these inputs say otherwise, and the inputs that say it instead."""

_NETWORKS: Mapping[str, tuple[str, ...]] = {
    "gcp:compute/firewall:Firewall": ("network",),
    "gcp:compute/subnetwork:Subnetwork": ("network",),
    "gcp:compute/route:Route": ("network",),
    "gcp:compute/router:Router": ("network",),
    "gcp:sql/databaseInstance:DatabaseInstance": ("settings.ipConfiguration.privateNetwork",),
}
_NODES: Mapping[str, tuple[str, str]] = {
    "gcp:compute/instance:Instance": ("networkInterfaces[*]", "serviceAccount"),
    "gcp:compute/instanceTemplate:InstanceTemplate": ("networkInterfaces[*]", "serviceAccount"),
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": ("networkInterfaces[*]", "serviceAccount"),
}
_IDENTITIES: Mapping[str, str] = {
    "gcp:container/nodePool:NodePool": "nodeConfig.serviceAccount",
    "gcp:cloudrunv2/service:Service": "template.serviceAccount",
    "gcp:cloudrunv2/job:Job": "template.template.serviceAccount",
    "gcp:cloudfunctions/function:Function": "serviceAccountEmail",
    "gcp:cloudfunctionsv2/function:Function": "serviceConfig.serviceAccountEmail",
}
_NETWORK = "gcp:compute/network:Network"
_PROJECT = "gcp:organizations/project:Project"
_DEFAULT = re.compile(r"(?:.*/networks/|.*/subnetworks/)?default")
_ACCOUNT = re.compile(r"\d+-compute@developer\.gserviceaccount\.com|.+@appspot\.gserviceaccount\.com|default")
_ANY_ACCOUNT = "the e-mail address of a service account of its own"
_ANY_NETWORK = "a network of its own"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Where it is placed, and as whom it runs, was decided and not left to the cloud."""
    kind = resource.type
    if kind in _ADOPTED:
        yield Finding(resource, "", "the cloud's default network", _ANY_NETWORK)
    elif kind == _DEFAULT_GROUP:
        yield from absent(resource, "ingress", "no rule")
        yield from absent(resource, "egress", "no rule")
    elif kind == _NETWORK:
        yield from is_false(resource, "autoCreateSubnetworks", default=True)
        yield from _own_network(resource, "name", context)
    elif kind == _PROJECT:
        yield from is_false(resource, "autoCreateNetwork", default=True)
    if kind in _PLACED:
        wanted, instead = _PLACED[kind]
        if all(resource.get(path) is None for path in instead):
            for path in wanted:
                yield from present(
                    resource, path, "what it is placed in; without it the default one is taken"
                )
    for path in _NETWORKS.get(kind, ()):
        yield from _own_network(resource, path, context)
    if kind in _NODES:
        yield from _node(resource, *_NODES[kind], context)
    if kind in _IDENTITIES:
        yield from _own_account(resource, _IDENTITIES[kind])


def _node(resource: Resource, interfaces: str, account: str, context: Context) -> Iterator[Finding]:
    for at, _ in resource.each(interfaces):
        given = [
            path for path in (f"{at}.network", f"{at}.subnetwork") if resource.get(path) not in (None, "")
        ]
        if not given and resource.get(f"{at}.networkAttachment") is None:
            yield Finding(resource, at, "neither network nor subnetwork", _ANY_NETWORK)
        for path in given:
            yield from _own_network(resource, path, context)
    # Without the whole block the node has no identity at all, which is nobody's default one.
    if resource.get(account) is not None:
        yield from _own_account(resource, f"{account}.email")


def _own_network(resource: Resource, path: str, context: Context) -> Iterator[Finding]:
    value = resource.get(path)
    if value is UNKNOWN:
        if not context.stack.referred(resource, path, _NETWORK, "gcp:compute/subnetwork:Subnetwork"):
            yield unknown(resource, path, _ANY_NETWORK)
    elif isinstance(value, str) and _DEFAULT.fullmatch(value):
        yield Finding(resource, path, show(value), _ANY_NETWORK)


def _own_account(resource: Resource, path: str) -> Iterator[Finding]:
    if resource.get(path) is UNKNOWN:
        # It was given; the default ones' addresses are no outputs of anything but look-ups of the default ones.
        return
    yield from holds(
        resource,
        path,
        lambda value: bool(value) and not _ACCOUNT.fullmatch(str(value)),
        _ANY_ACCOUNT,
        default="",
    )


_EMAILS = ("12345-compute@developer.gserviceaccount.com", "example-mail@appspot.gserviceaccount.com", "")
_NAMES = ("default", "projects/example-mail/global/networks/default")


def _guards(token: str) -> tuple[Guard, ...]:
    interfaces, account = _NODES[token]
    return (
        Guard(
            f"{interfaces}.subnetwork",
            wrong=("default", "regions/europe-west3/subnetworks/default"),
            when=lambda of, value: (
                value is not None and not any(net for _, net in of.each(f"{interfaces}.network"))
            ),
        ),
        Guard(f"{account}.email", wrong=_EMAILS, opaque=True, when=lambda of, _: of.get(account) is not None),
    )


RULE = Rule(
    id="exposure-default-network",
    title="Nothing uses a default network, group or identity",
    severity=Severity.HIGH,
    why="Defaults are open inside and shared: whoever gets one machine or one identity gets all that use it.",
    mend="Make a network, security groups and service accounts for the purpose and name them.",
    controls=(
        Control(Framework.SOC2, "CC6.6"),
        Control(Framework.SOC2, "CC6.3"),
        Control(Framework.ISO27001, "A.8.9"),
        Control(Framework.ISO27001, "A.8.22"),
        Control(Framework.GDPR, "Art. 25(2)"),
    ),
    covers={
        **dict.fromkeys(sorted(_ADOPTED), ()),
        _DEFAULT_GROUP: tuple(
            Guard(path, wrong=([{"protocol": "-1", "fromPort": 0, "toPort": 0, "self": True}],), needed=False)
            for path in ("ingress", "egress")
        ),
        _NETWORK: (
            Guard("autoCreateSubnetworks", wrong=(True, "false")),
            Guard("name", wrong=("default",), needed=False),
        ),
        _PROJECT: (Guard("autoCreateNetwork", wrong=(True,)),),
        **{
            token: tuple(
                Guard(path, wrong=("",), opaque=True, when=lambda of, value: value is not None)
                for path in wanted
            )
            for token, (wanted, _) in _PLACED.items()
        },
        **{
            token: tuple(Guard(path, wrong=_NAMES, needed=False) for path in paths)
            for token, paths in _NETWORKS.items()
        },
        **{token: _guards(token) for token in _NODES},
        **{token: (Guard(path, wrong=_EMAILS, opaque=True),) for token, path in _IDENTITIES.items()},
    },
    judge=judge,
)
