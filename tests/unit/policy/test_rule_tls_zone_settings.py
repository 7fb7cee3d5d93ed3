"""Zones that proxy declare their TLS settings."""

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_zone_settings import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

ZONE = resource("cloudflare:index/zone:Zone", "zone", {"name": "example.test"})
WEB = resource("cloudflare:index/dnsRecord:DnsRecord", "web", {"zoneId": "zone-id", "proxied": True})
OLD = resource("cloudflare:index/record:Record", "old", {"zoneId": "zone-id", "proxied": True})
MAIL = resource("cloudflare:index/dnsRecord:DnsRecord", "mx", {"zoneId": "mail", "type": "MX"})


def setting(name: str, zone: str = "zone-id") -> Resource:
    return resource(
        "cloudflare:index/zoneSetting:ZoneSetting", name, {"zoneId": zone, "settingId": name, "value": "?"}
    )


SETTINGS = [setting("min_tls_version"), setting("ssl"), setting("always_use_https")]
GOOD = ([ZONE, *SETTINGS, WEB, OLD], [MAIL])


def test_each_missing_setting_is_found_once_at_the_zone() -> None:
    assert places(RULE, [ZONE, SETTINGS[0], WEB, OLD]) == [("zone", "")]
    (item,) = found(RULE, [ZONE, *SETTINGS[1:], WEB])
    assert item.finding.found == "no setting min_tls_version"


def test_a_zone_of_elsewhere_is_blamed_at_its_record() -> None:
    assert places(RULE, [*SETTINGS, changed(WEB, zoneId="other")]) == [("web", "")]


def test_a_zone_without_proxies_needs_none() -> None:
    assert found(RULE, [ZONE, changed(WEB, proxied=False)]) == []


def test_unknown_is_found() -> None:
    assert any(item.finding.unknown for item in found(RULE, [ZONE, *SETTINGS, changed(WEB, proxied=UNKNOWN)]))
    assert any(item.finding.unknown for item in found(RULE, [ZONE, *SETTINGS, changed(WEB, zoneId=UNKNOWN)]))
