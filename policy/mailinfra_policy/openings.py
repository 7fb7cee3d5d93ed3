"""What firewalls let in: sources, ports and the roles that they are for, read from every type in one way.

Sources: the inputs of pulumi-aws 7.51 and pulumi-gcp 10.2; RFC 1918, 4193, 4291 and 6598 for what is nobody's public
address.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy.config import Exposure
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.values import UNKNOWN, Unknown, Value, get, join, show

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_OWN = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
    )
) + tuple(ipaddress.ip_network(text) for text in ("fc00::/7", "fe80::/10", "::1/128"))
ALL_PORTS = (0, 65_535)
_NO_PORTS = frozenset({"icmp", "icmpv6", "ipv6-icmp", "1", "58"})
"""Protocols that reach no service."""
_NAMES = {"6": "tcp", "17": "udp", "-1": "all"}


@dataclass(frozen=True)
class Opening:
    """One thing that a firewall lets in.

    `path` is where it says so. `sources` are networks (or `UNKNOWN`, alone or among them); `protocol` in small letters
    (`tcp`, `udp`, `all`, …); `ports` pairs of first and last port, `UNKNOWN` where they are not known. `stateless`:
    answers to the inside's own connections come in through it as well.
    """

    path: str
    sources: tuple[Value, ...]
    protocol: Value
    ports: tuple[tuple[int, int], ...] | Unknown
    stateless: bool = False


def world(sources: tuple[Value, ...], exposure: Exposure) -> bool | Unknown:
    """Whether some sources together are as good as the whole internet; what is no network counts as all of it.

    They are when they hold more public addresses than a network of the configured widest prefix: `0.0.0.0/0`, but also
    `0.0.0.0/1` with `128.0.0.0/1`, or a long list of provider's blocks.
    """
    wide4, wide6 = _public(tuple(str(text) for text in sources if not isinstance(text, Unknown)))
    if wide4 > 1 << (32 - exposure.widest_ipv4) or wide6 > 1 << (128 - exposure.widest_ipv6):
        return True
    return UNKNOWN if UNKNOWN in sources else False


@functools.lru_cache(maxsize=4096)
def _public(texts: tuple[str, ...]) -> tuple[int, int]:
    """How many public addresses of either family some networks hold; all of them, where one is no network."""
    networks: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return 1 << 32, 1 << 128
        if not any(own.version == network.version and network.subnet_of(own) for own in _OWN):  # type: ignore[arg-type]
            networks.append(network)
    v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    wide4 = sum(network.num_addresses for network in ipaddress.collapse_addresses(v4))
    wide6 = sum(network.num_addresses for network in ipaddress.collapse_addresses(v6))
    return wide4, wide6


def openings(resource: Resource, stack: Stack) -> Iterator[Opening]:
    """What a firewall of any covered type lets in."""
    yield from READERS[resource.type](resource, stack)


def _listed(value: Value) -> tuple[Value, ...]:
    if value in (None, ""):
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def _given(value: Value) -> bool:
    return value is UNKNOWN or value not in (None, "", [])


def _protocol(value: Value) -> Value:
    if isinstance(value, Unknown):
        return UNKNOWN
    text = str(value).casefold()
    return _NAMES.get(text, text)


def _range(first: Value, last: Value, protocol: Value) -> tuple[tuple[int, int], ...] | Unknown:
    if protocol == "all":
        return (ALL_PORTS,)
    if UNKNOWN in (first, last):
        return UNKNOWN
    if isinstance(first, int) and isinstance(last, int) and 0 <= first <= last:
        return ((first, last),)
    return (ALL_PORTS,)


def _aws(
    resource: Resource, stack: Stack, path: str, at: str, names: Mapping[str, str], *, stateless: bool = False
) -> Iterator[Opening]:
    def value(name: str) -> Value:
        return get(resource.props, f"{at}.{names[name]}" if at else names[name]) if name in names else None

    protocol = _protocol(value("protocol"))
    sources = (*_listed(value("v4")), *_listed(value("v6")))
    for prefix_list in _listed(value("list")):
        sources += _entries(resource, f"{at}.{names['list']}" if at else names["list"], prefix_list, stack)
    yield Opening(path, sources, protocol, _range(value("first"), value("last"), protocol), stateless)


def _entries(resource: Resource, path: str, name: Value, stack: Stack) -> tuple[Value, ...]:
    """The networks of a prefix list; one that is not of this stack may hold any."""
    found = stack.referred(resource, path, "aws:ec2/managedPrefixList:ManagedPrefixList")
    if not found:
        return (UNKNOWN if name is UNKNOWN else str(name),)
    entries: tuple[Value, ...] = ()
    for item in found:
        entries += tuple(cidr for _, cidr in item.each("entries[*].cidr"))
        entry = "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry"
        entries += tuple(more.get("cidr") for more in stack.referring(item, "prefixListId", entry))
    return entries


_GROUP = {
    "protocol": "protocol",
    "first": "fromPort",
    "last": "toPort",
    "v4": "cidrBlocks",
    "v6": "ipv6CidrBlocks",
    "list": "prefixListIds",
}
_ACL = {**_GROUP, "v4": "cidrBlock", "v6": "ipv6CidrBlock"}
del _ACL["list"]


def _group(resource: Resource, stack: Stack) -> Iterator[Opening]:
    for at, _ in resource.each("ingress[*]"):
        yield from _aws(resource, stack, at, at, _GROUP)


def _ingress_rule(resource: Resource, stack: Stack) -> Iterator[Opening]:
    names = {**_GROUP, "protocol": "ipProtocol", "v4": "cidrIpv4", "v6": "cidrIpv6", "list": "prefixListId"}
    yield from _aws(resource, stack, "fromPort", "", names)


def _group_rule(resource: Resource, stack: Stack) -> Iterator[Opening]:
    if resource.get("type") != "egress":
        yield from _aws(resource, stack, "fromPort", "", _GROUP)


def _acl(resource: Resource, stack: Stack) -> Iterator[Opening]:
    for at, _ in resource.each("ingress[*]"):
        if resource.get(f"{at}.action") != "deny":
            yield from _aws(resource, stack, at, at, _ACL, stateless=True)


def _acl_rule(resource: Resource, stack: Stack) -> Iterator[Opening]:
    if resource.get("egress") is not True and resource.get("ruleAction") != "deny":
        yield from _aws(resource, stack, "fromPort", "", _ACL, stateless=True)


def _lightsail(resource: Resource, stack: Stack) -> Iterator[Opening]:
    for at, _ in resource.each("portInfos[*]"):
        names = {**_GROUP, "v4": "cidrs", "v6": "ipv6Cidrs", "list": "cidrListAliases"}
        if not any(_given(resource.get(f"{at}.{names[name]}")) for name in ("v4", "v6", "list")):
            protocol = _protocol(resource.get(f"{at}.protocol"))
            ports = _range(resource.get(f"{at}.fromPort"), resource.get(f"{at}.toPort"), protocol)
            yield Opening(at, ("0.0.0.0/0",), protocol, ports)
        else:
            yield from _aws(resource, stack, at, at, names)


def _ports(value: Value) -> tuple[tuple[int, int], ...] | Unknown:
    """Google's ports: `["25", "8000-8080"]`; none means all."""
    if isinstance(value, Unknown):
        return UNKNOWN
    found: list[tuple[int, int]] = []
    for text in _listed(value):
        if isinstance(text, Unknown):
            return UNKNOWN
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", str(text))
        found.append((int(match[1]), int(match[2] or match[1])) if match else ALL_PORTS)
    return tuple(found) or (ALL_PORTS,)


def _firewall(resource: Resource, stack: Stack) -> Iterator[Opening]:
    if resource.get("direction") == "EGRESS" or resource.get("disabled") is True:
        return
    sources = _listed(resource.get("sourceRanges"))
    if not sources and not any(
        _given(resource.get(name)) for name in ("sourceTags", "sourceServiceAccounts")
    ):
        sources = ("0.0.0.0/0",)
    for at, _ in resource.each("allows[*]"):
        protocol = _protocol(resource.get(f"{at}.protocol"))
        ports = (ALL_PORTS,) if protocol == "all" else _ports(resource.get(f"{at}.ports"))
        yield Opening(at, sources, protocol, ports)


def _policy_rule(resource: Resource, stack: Stack) -> Iterator[Opening]:
    yield from _rule_at(resource, "", "match")


def _policy_rules(resource: Resource, stack: Stack) -> Iterator[Opening]:
    for at, _ in resource.each("rules[*]"):
        yield from _rule_at(resource, f"{at}.", at)


_NARROW = ("srcSecureTags", "srcFqdns", "srcAddressGroups", "srcNetworks")


def _rule_at(resource: Resource, at: str, path: str) -> Iterator[Opening]:
    if resource.get(f"{at}action") in ("deny", "goto_next"):
        return
    if resource.get(f"{at}direction") == "EGRESS" or resource.get(f"{at}disabled") is True:
        return
    sources = _listed(resource.get(f"{at}match.srcIpRanges"))
    if not sources and not any(_given(resource.get(f"{at}match.{name}")) for name in _NARROW):
        # Countries and lists of threats are no narrower than the world.
        sources = ("0.0.0.0/0",)
    for place, _ in resource.each(f"{at}match.layer4Configs[*]"):
        protocol = _protocol(resource.get(f"{place}.ipProtocol"))
        ports = (ALL_PORTS,) if protocol == "all" else _ports(resource.get(f"{place}.ports"))
        yield Opening(path, sources, protocol, ports)


INLINE = ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
ACLS = ("aws:ec2/networkAcl:NetworkAcl", "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl")
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
GROUP_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
ACL_RULE = "aws:ec2/networkAclRule:NetworkAclRule"
LIGHTSAIL = "aws:lightsail/instancePublicPorts:InstancePublicPorts"
FIREWALL = "gcp:compute/firewall:Firewall"
POLICY_RULES = tuple(
    f"gcp:compute/{name[0].lower()}{name[1:]}:{name}"
    for name in ("FirewallPolicyRule", "NetworkFirewallPolicyRule", "RegionNetworkFirewallPolicyRule")
)
POLICIES = tuple(
    f"gcp:compute/{name[0].lower()}{name[1:]}:{name}"
    for name in (
        "FirewallPolicyWithRules",
        "NetworkFirewallPolicyWithRules",
        "RegionNetworkFirewallPolicyWithRules",
    )
)
READERS: Mapping[str, Callable[[Resource, Stack], Iterator[Opening]]] = {
    **dict.fromkeys(INLINE, _group),
    **dict.fromkeys(ACLS, _acl),
    INGRESS_RULE: _ingress_rule,
    GROUP_RULE: _group_rule,
    ACL_RULE: _acl_rule,
    LIGHTSAIL: _lightsail,
    FIREWALL: _firewall,
    **dict.fromkeys(POLICY_RULES, _policy_rule),
    **dict.fromkeys(POLICIES, _policy_rules),
}
"""How each type of firewall is read."""


def reaches(opening: Opening) -> bool:
    """Whether it reaches services at all (ICMP does not)."""
    return opening.protocol not in _NO_PORTS


def told(opening: Opening) -> str:
    """An opening for a message: `tcp 22 from ["0.0.0.0/0"]`."""
    ports = (
        str(opening.ports)
        if isinstance(opening.ports, Unknown)
        else ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in opening.ports)
    )
    return f"{opening.protocol} {ports} from {show([*map(str, opening.sources)], 100)}"


def roles(
    resource: Resource, opening: Opening, stack: Stack, exposure: Exposure
) -> frozenset[str] | Unknown | None:
    """The roles that an opening is for: of the rule's own tag, else of the group's or list's that it belongs to.

    Google's firewalls have no labels: their network tags tell (`roles-mx-web` for the role tag `roles`), and a firewall
    policy's rule says it by a secure tag's value of this stack. None where nothing tells.
    """
    tag = exposure.role_tag
    if resource.type == FIREWALL:
        return _of_network_tags(resource.get("targetTags"), f"{tag}-")
    if resource.cloud == "gcp":
        place = opening.path.removesuffix("match")
        path = join(place, "targetSecureTags") if place else "targetSecureTags"
        return _of_tag_values(resource, path, stack)
    value = resource.tag(tag)
    for owner in ("securityGroupId", "networkAclId"):
        if value is None and resource.get(owner) is not None:
            for group in stack.referred(resource, owner, *INLINE, *ACLS):
                value = group.tag(tag)
    if value is None or isinstance(value, Unknown):
        return value
    return frozenset(re.split(r"[ _]+", str(value)))


def _of_network_tags(value: Value, prefix: str) -> frozenset[str] | Unknown | None:
    """The roles that every one of the target tags has: the rule reaches whatever has one of them."""
    found: list[frozenset[str]] = []
    for text in _listed(value):
        if isinstance(text, Unknown):
            return UNKNOWN
        if not str(text).startswith(prefix):
            return None
        found.append(frozenset(str(text).removeprefix(prefix).split("-")))
    return frozenset.intersection(*found) if found else None


def _of_tag_values(resource: Resource, path: str, stack: Stack) -> frozenset[str] | Unknown | None:
    found: list[frozenset[str]] = []
    for place, name in resource.each(f"{path}[*].name"):
        values = stack.referred(resource, place, "gcp:tags/tagValue:TagValue")
        if not values:
            return UNKNOWN if name is UNKNOWN else None
        for value in values:
            short = value.get("shortName")
            if isinstance(short, Unknown):
                return UNKNOWN
            found.append(frozenset(re.split(r"[ _-]+", str(short))))
    return frozenset.intersection(*found) if found else None
