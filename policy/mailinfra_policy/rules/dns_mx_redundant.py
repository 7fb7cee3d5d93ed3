"""Mail finds the domain when a region is gone: two primary exchangers of equal preference, in two regions."""

from collections.abc import Iterator

from mailinfra_policy.addresses import is_unknown, sites
from mailinfra_policy.maildns import CLOUDDNS, CLOUDFLARE, CLOUDFLARE_OLD, ROUTE53, dns, of_kind
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN

_HOSTS = "hosts whose addresses lie in known regions"
_PREFERENCE = {CLOUDFLARE: "priority", CLOUDFLARE_OLD: "priority"}
_TWO = "two hosts of the lowest preference at least, in two regions"


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each mail domain; a host is followed to the machines behind its addresses."""
    zones = dns(context)
    for item in zones.unknown_mx:
        yield Finding(item.resource, "name", str(UNKNOWN), "a domain that is known", unknown=True)
    for domain, sets in zones.domains.items():
        exchanges = zones.exchanges(domain)
        valid = [found for found in exchanges if isinstance(found[0], int)]
        for preference, host, item, answer in exchanges:
            if preference is UNKNOWN:
                yield Finding(item.resource, answer.path, str(UNKNOWN), _HOSTS, unknown=True)
            elif preference is None or not sites(zones, host):
                unknown = preference is not None and is_unknown(zones, host)
                yield Finding(
                    item.resource, answer.path, f"{host or answer.value}: no known region", _HOSTS, unknown
                )
        open_ = len(valid) < len(exchanges) and any(found[0] is UNKNOWN for found in exchanges)
        lowest = min((preference for preference, *_ in valid), default=None)
        primaries = [found for found in valid if found[0] == lowest]
        hosts = sorted({host for _, host, *_ in primaries})
        regions = {region for host in hosts for site in sites(zones, host) for region in site.regions}
        if len(hosts) < 2 or len(regions) < 2:
            where = f"{', '.join(hosts) or 'no host'} in {', '.join(sorted(regions)) or 'no known region'}"
            for _, _, item, answer in primaries:
                path = answer.path if len(hosts) > 1 else _PREFERENCE.get(item.resource.type, answer.path)
                yield Finding(item.resource, path, f"{domain}: {where}", _TWO, unknown=open_)
            if not primaries and not open_:
                yield Finding(sets[0].resource, sets[0].path, f"{domain}: {where}", _TWO)


_MX = of_kind("MX")
_ELSEWHERE = "10 mx.elsewhere.test."
_ONE = (lambda value: value[:1], [_ELSEWHERE, "10 mx.nowhere.test."])

RULE = Rule(
    id="dns-mx-redundant",
    title="Two primary MX hosts of equal preference, in two regions",
    severity=Severity.HIGH,
    why="With one primary host, or all of them in one region, the loss of that region stops the domain's mail.",
    mend="Give the domain two MX hosts of the same, lowest preference, whose addresses lie in different regions.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.14"),
    ),
    covers={
        ROUTE53: (Guard("records", wrong=_ONE, when=_MX), Guard("name", needed=False, when=_MX)),
        CLOUDDNS: (Guard("rrdatas", wrong=_ONE, when=_MX), Guard("name", needed=False, when=_MX)),
        **{
            token: (
                Guard("content", wrong=("mx.elsewhere.test",), when=_MX),
                Guard("priority", wrong=(1,), when=_MX),
                Guard("name", needed=False, when=_MX),
            )
            for token in (CLOUDFLARE, CLOUDFLARE_OLD)
        },
    },
    judge_stack=judge_stack,
)
