"""A Cloudflare zone that proxies has its TLS settings in the stack: the defaults let in TLS 1.0 and plain text."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import TRANSPORT
from mailinfra_policy.values import UNKNOWN, Value, show

_RECORDS = ("cloudflare:index/dnsRecord:DnsRecord", "cloudflare:index/record:Record")
_ZONES = "cloudflare:index/zone:Zone"
_SETTING = "cloudflare:index/zoneSetting:ZoneSetting"
_NEEDED = ("min_tls_version", "ssl", "always_use_https")


def _zone(stack: Stack, resource: Resource) -> Value:
    """What tells a zone from another one: the zone of this stack, or the id as it is written."""
    found = stack.referred(resource, "zoneId", _ZONES)
    return found[0].urn if found else resource.get("zoneId")


def judge(context: Context) -> Iterator[Finding]:
    """Every zone with a proxied record has each of the settings."""
    stack, seen = context.stack, set()
    had = {
        (_zone(stack, setting), setting.get("settingId"))
        for setting in stack.of(_SETTING)
        if setting.get("settingId") is not UNKNOWN
    }
    for record in stack.of(*_RECORDS):
        proxied = record.get("proxied")
        if proxied is UNKNOWN:
            yield Finding(record, "proxied", show(UNKNOWN), "whether it is proxied", unknown=True)
        if proxied in (None, False) or (zone := _zone(stack, record)) in seen:
            continue
        if zone is UNKNOWN:
            yield Finding(record, "zoneId", show(UNKNOWN), "a zone whose settings are here", unknown=True)
            continue
        seen.add(zone)
        blamed = stack.find(zone) or record
        for setting in _NEEDED:
            if (zone, setting) not in had:
                yield Finding(blamed, "", f"no setting {setting}", f"a {_SETTING} of the zone with it")


def _counts(resource: Resource, value: Value) -> bool:
    return resource.get("settingId") in _NEEDED


RULE = Rule(
    id="tls-zone-settings",
    title="Zones that proxy declare their TLS settings",
    severity=Severity.HIGH,
    why="A zone without the settings has Cloudflare's: TLS 1.0 and plain HTTP are let in.",
    mend="Add ZoneSettings for min_tls_version, ssl and always_use_https to each zone with proxied records.",
    controls=TRANSPORT,
    covers={
        _SETTING: (
            Guard("", when=_counts),
            Guard("settingId", wrong=("min_tls_versions",), when=_counts),
            Guard("zoneId", wrong=("other",), when=_counts),
        ),
        **{token: (Guard("proxied", needed=False),) for token in _RECORDS},
    },
    judge_stack=judge,
)
