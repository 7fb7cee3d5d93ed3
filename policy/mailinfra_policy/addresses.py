"""Which resources stand behind a name of the DNS: whose address it is, and in which regions."""

from collections.abc import Iterator, Mapping

from mailinfra_policy.location import Site
from mailinfra_policy.maildns import Answer, MailDns, RecordSet
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.stores import spots
from mailinfra_policy.values import UNKNOWN, each

EIP = "aws:ec2/eip:Eip"
GCP_INSTANCE = "gcp:compute/instance:Instance"
HOLDERS: Mapping[str, tuple[str, ...]] = {
    EIP: ("publicIp", "address"),
    "aws:ec2/instance:Instance": ("publicIp", "ipv6Addresses[*]"),
    "aws:ec2/networkInterface:NetworkInterface": ("ipv6Addresses[*]",),
    "aws:lightsail/staticIp:StaticIp": ("ipAddress",),
    "aws:lightsail/instance:Instance": ("publicIpAddress", "ipv6Addresses[*]"),
    "aws:lb/loadBalancer:LoadBalancer": ("dnsName",),
    "gcp:compute/address:Address": ("address",),
    "gcp:compute/globalAddress:GlobalAddress": ("address",),
    "gcp:compute/forwardingRule:ForwardingRule": ("ipAddress",),
    GCP_INSTANCE: (
        "networkInterfaces[*].accessConfigs[*].natIp",
        "networkInterfaces[*].ipv6AccessConfigs[*].externalIpv6",
    ),
}
"""The types that hold a public address, and where."""
_SUBNETS = ("aws:ec2/subnet:Subnet", "gcp:compute/subnetwork:Subnetwork")


class AddressBook:
    """Who holds which address. Made by `stack.derived(AddressBook)`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._sites: dict[str, list[Site]] = {}
        self._holders: dict[str, list[Resource]] = {}
        for resource in stack.of(*HOLDERS):
            for path in HOLDERS[resource.type]:
                for props in (resource.props, resource.outputs):
                    for _, value in each(props, path):
                        if isinstance(value, str) and value:
                            text = value.lower().partition("/")[0].removesuffix(".")
                            self._holders.setdefault(text, []).append(resource)

    def behind(self, item: RecordSet, answer: Answer) -> list[Resource]:
        """The resources that an answer leads to: by its address, or while that is not known by what it is made from."""
        if isinstance(answer.value, str):
            return self._holders.get(answer.value.lower().removesuffix("."), [])
        return self.stack.referred(item.resource, answer.path, *HOLDERS, *_SUBNETS)

    def alias(self, item: RecordSet) -> list[Resource]:
        """The load balancers that a Route 53 alias stands for."""
        if item.alias is None:
            return []
        if isinstance(item.alias, str):
            return self._holders.get(item.alias.removeprefix("dualstack."), [])
        return self.stack.referred(item.resource, "aliases", *HOLDERS)

    def sites(self, zones: MailDns, host: str) -> list[Site]:
        """Where a host's addresses lie, one site for each that is known."""
        if host not in self._sites:
            self._sites[host] = [
                spot.site
                for resource in dict.fromkeys(self._hosts(zones, host))
                for spot in spots(resource, self.stack)
                if spot.site is not None
            ]
        return self._sites[host]

    def _hosts(self, zones: MailDns, host: str) -> Iterator[Resource]:
        for kind in ("A", "AAAA"):
            for item, answer in zones.answers(host, kind):
                yield from self.behind(item, answer)
            for item in zones.of(host, kind):
                yield from self.alias(item)


def sites(zones: MailDns, host: str) -> list[Site]:
    """Where a host's addresses lie, one site for each that is known."""
    return zones.stack.derived(AddressBook).sites(zones, host)


def is_unknown(zones: MailDns, host: str) -> bool:
    """Whether one of a host's addresses is not known yet."""
    return any(answer.value is UNKNOWN for kind in ("A", "AAAA") for _, answer in zones.answers(host, kind))
