"""The zones that mail depends on are signed."""

from collections.abc import Iterator

from mailinfra_policy.expect import one_of
from mailinfra_policy.maildns import ZONES, MailDns, dns, name_of, within
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN

_ROUTE53, _CLOUDDNS, _CLOUDFLARE = ZONES
_SIGNED = "aws:route53/hostedZoneDnsSec:HostedZoneDnsSec"
_KEY = "aws:route53/keySigningKey:KeySigningKey"
_CLOUDFLARE_SIGNED = "cloudflare:index/zoneDnssec:ZoneDnssec"
# For a zone that another stack holds: what signs it, by the record's own input.
_ZONE_INPUT = {
    "aws:route53/record:Record": ("zoneId", ((_SIGNED, "hostedZoneId"), (_KEY, "hostedZoneId"))),
    "cloudflare:index/dnsRecord:DnsRecord": ("zoneId", ((_CLOUDFLARE_SIGNED, "zoneId"),)),
    "cloudflare:index/record:Record": ("zoneId", ((_CLOUDFLARE_SIGNED, "zoneId"),)),
    "gcp:dns/recordSet:RecordSet": ("managedZone", ()),
}


def judge_stack(context: Context) -> Iterator[Finding]:
    """The zones of the mail domains and of their MX hosts."""
    zones, stack = dns(context), context.stack
    names = set(zones.domains)
    for domain in zones.domains:
        names |= {host for _, host, *_ in zones.exchanges(domain) if isinstance(host, str)}
    for zone in zones.zones if names else ():
        apex = zone.get(ZONES[zone.type])
        if apex is UNKNOWN or (isinstance(apex, str) and any(within(name, name_of(apex)) for name in names)):
            yield from _zone(zone, context)
    for sets in zones.domains.values():
        for item in sets:
            if zones.zone_of(item) is None:
                yield from _foreign(item.resource, zones)
    for token, path, allowed in (
        (_SIGNED, "signingStatus", "SIGNING"),
        (_KEY, "status", "ACTIVE"),
    ):
        for resource in stack.of(token):
            yield from one_of(resource, path, (allowed,), default=allowed)
    for resource in stack.of(_CLOUDFLARE_SIGNED):
        yield from one_of(resource, "status", ("active",))


def _zone(zone: Resource, context: Context) -> Iterator[Finding]:
    stack = context.stack
    if zone.type == _CLOUDDNS:
        yield from one_of(zone, "dnssecConfig.state", ("on",))
        return
    for token, path in (
        ((_SIGNED, "hostedZoneId"), (_KEY, "hostedZoneId"))
        if zone.type == _ROUTE53
        else ((_CLOUDFLARE_SIGNED, "zoneId"),)
    ):
        if not stack.referring(zone, path, token):
            yield Finding(zone, "", f"no {token} of this zone", "a zone that is signed")


def _foreign(resource: Resource, zones: MailDns) -> Iterator[Finding]:
    path, signers = _ZONE_INPUT[resource.type]
    value = resource.get(path)
    signed = bool(signers) and all(
        any(isinstance(value, str) and other.get(at) == value for other in zones.stack.of(token))
        for token, at in signers
    )
    if not signed:
        yield Finding(
            resource, path, "a zone that this stack does not sign", "a zone that is signed", value is UNKNOWN
        )


RULE = Rule(
    id="dns-dnssec",
    title="The zones that mail depends on are signed",
    severity=Severity.HIGH,
    why="In an unsigned zone a forged answer turns mail to another host, and DANE cannot hold TLS.",
    mend="Sign the zone: HostedZoneDnsSec with a KeySigningKey at Route 53, dnssecConfig.state `on` at Cloud DNS, "
    "ZoneDnssec with status `active` at Cloudflare; and give the DS record to the parent.",
    controls=(
        Control(Framework.NIST, "Security Recommendation 4-2"),
        Control(Framework.ISO27001, "A.8.21"),
        Control(Framework.SOC2, "CC6.6"),
    ),
    covers={
        _ROUTE53: (),
        _CLOUDDNS: (
            Guard(
                "dnssecConfig.state",
                wrong=("off", "transfer", "On"),
                when=lambda zone, _: zone.get("visibility") != "private",
            ),
        ),
        _CLOUDFLARE: (),
        _SIGNED: (
            Guard(""),
            Guard("hostedZoneId", wrong=("Z0",)),
            Guard("signingStatus", wrong=("NOT_SIGNING",), needed=False),
        ),
        _KEY: (
            Guard(""),
            Guard("hostedZoneId", wrong=("Z0",)),
            Guard("status", wrong=("INACTIVE",), needed=False),
        ),
        _CLOUDFLARE_SIGNED: (
            Guard(""),
            Guard("zoneId", wrong=("0",)),
            Guard("status", wrong=("disabled",)),
        ),
    },
    judge_stack=judge_stack,
)
