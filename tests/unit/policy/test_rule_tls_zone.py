"""Cloudflare zones and host names speak TLS 1.3."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_zone import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings


def setting(name: str, value: str) -> Resource:
    return resource("cloudflare:index/zoneSetting:ZoneSetting", name, {"settingId": name, "value": value})


LEAST = setting("min_tls_version", "1.3")
SSL = setting("ssl", "strict")
HOST = resource(
    "cloudflare:index/hostnameTlsSetting:HostnameTlsSetting",
    "host",
    {"settingId": "min_tls_version", "value": "1.3"},
)
CUSTOM = resource(
    "cloudflare:index/customHostname:CustomHostname",
    "custom",
    {"ssl": {"settings": {"minTlsVersion": "1.3"}}},
)
BUCKET = resource("cloudflare:index/r2CustomDomain:R2CustomDomain", "bucket", {"minTls": "1.3"})
PAGE = resource("cloudflare:index/pageRule:PageRule", "page", {"actions": {"ssl": "strict"}})
RULES = resource(
    "cloudflare:index/ruleset:Ruleset",
    "rules",
    {"rules": [{"action": "set_config", "actionParameters": {"ssl": "strict"}}]},
)
SPECTRUM = resource(
    "cloudflare:index/spectrumApplication:SpectrumApplication", "spectrum", {"protocol": "tcp/993"}
)
CERTIFICATES = resource(
    "cloudflare:index/universalSslSetting:UniversalSslSetting", "certificates", {"enabled": True}
)
GOOD = (
    [LEAST, SSL, setting("tls_1_3", "on"), setting("always_use_https", "on"), setting("brotli", "off")],
    [HOST],
    [CUSTOM],
    [BUCKET],
    [PAGE, RULES],
    [SPECTRUM, CERTIFICATES],
)


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (LEAST, {"value": "1.2"}, "value"),
        (LEAST, {"value": 1.3}, "value"),
        (SSL, {"value": "full"}, "value"),
        (SSL, {"value": "flexible"}, "value"),
        (setting("tls_1_3", "on"), {"value": "zrt"}, "value"),
        (setting("always_use_https", "on"), {"value": "off"}, "value"),
        (HOST, {"value": "1.0"}, "value"),
        (CUSTOM, {"ssl": None}, "ssl.settings.minTlsVersion"),
        (CUSTOM, {"ssl": {"settings": {"minTlsVersion": "1.3", "tls13": "off"}}}, "ssl.settings.tls13"),
        (BUCKET, {"minTls": None}, "minTls"),
        (PAGE, {"actions": {"ssl": "off"}}, "actions.ssl"),
        (RULES, {"rules": [{"actionParameters": {"ssl": "flexible"}}]}, "rules[0].actionParameters.ssl"),
        (SPECTRUM, {"tls": "flexible"}, "tls"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_the_floor_is_configurable() -> None:
    assert found(RULE, [changed(LEAST, value="1.2")], settings(tls={"public": "1.2"})) == []
    assert len(found(RULE, [changed(LEAST, value="1.1")], settings(tls={"public": "1.2"}))) == 1


@pytest.mark.parametrize("props", [{"value": UNKNOWN}, {"settingId": UNKNOWN}])
def test_unknown_is_found(props: dict[str, Any]) -> None:
    (item,) = found(RULE, [changed(LEAST, **props)])
    assert item.finding.unknown
