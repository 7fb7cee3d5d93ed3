"""Cloudflare: what zone settings, host names and rules say of TLS."""

from collections.abc import Iterator

from mailinfra_policy.expect import one_of
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import CLOUDFLARE, TRANSPORT, Link, Must, Table, floor, guarded, judged_by
from mailinfra_policy.values import UNKNOWN, Value

SETTINGS = {
    "ssl": ("strict", "origin_pull"),
    # `zrt` is 1.3 with early data, which an eavesdropper can play again.
    "tls_1_3": ("on",),
    "always_use_https": ("on",),
    "automatic_https_rewrites": ("on",),
}
"""The zone settings that bear on TLS, with their right values; `min_tls_version` follows the config."""
_SETTING = "cloudflare:index/zoneSetting:ZoneSetting"
_HOST = "cloudflare:index/hostnameTlsSetting:HostnameTlsSetting"
_SSL = ("strict",)
_MODES = ("off", "flexible", "full")

TABLE: Table = {
    "cloudflare:index/customHostname:CustomHostname": (
        Must("ssl.settings.minTlsVersion", CLOUDFLARE, wrong=("1.0", "1.1")),
        Must("ssl.settings.tls13", ("on",), default="on", wrong=("off",)),
    ),
    "cloudflare:index/r2CustomDomain:R2CustomDomain": (
        Must("minTls", CLOUDFLARE, default="1.0", wrong=("1.0", "1.1")),
    ),
    "cloudflare:index/pageRule:PageRule": (
        Must("actions.ssl", _SSL, default="strict", wrong=_MODES),
        Must("actions.automaticHttpsRewrites", ("on",), default="on", wrong=("off",)),
    ),
    "cloudflare:index/ruleset:Ruleset": (
        Must("ssl", _SSL, default="strict", under="rules[*].actionParameters", wrong=_MODES),
    ),
    # `off` passes the bytes on, so the origin speaks TLS with the client; the others end TLS at the edge.
    "cloudflare:index/spectrumApplication:SpectrumApplication": (
        Must("tls", ("off", "strict"), default="off", wrong=("flexible", "full")),
    ),
    "cloudflare:index/universalSslSetting:UniversalSslSetting": (Must("enabled", (True,)),),
}
_table = judged_by(TABLE)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table; a setting by its id has one of its right values."""
    yield from _table(resource, context)
    if resource.type in (_SETTING, _HOST):
        setting = resource.get("settingId")
        least = CLOUDFLARE.allowed(floor(context.config.tls, Link.PUBLIC))
        if setting is UNKNOWN:
            yield from one_of(resource, "settingId", (*SETTINGS, "min_tls_version"))
        elif setting == "min_tls_version":
            yield from one_of(resource, "value", least)
        elif setting in SETTINGS:
            yield from one_of(resource, "value", SETTINGS[setting])


def _about_tls(resource: Resource, value: Value) -> bool:
    return resource.get("settingId") in {*SETTINGS, "min_tls_version"}


RULE = Rule(
    id="tls-zone",
    title="Cloudflare zones and host names speak TLS 1.3, to origins too",
    severity=Severity.HIGH,
    why="Cloudflare's defaults take TLS 1.0 from visitors, and `full` does not check who the origin is.",
    mend="Set min_tls_version to 1.3, ssl to strict, tls_1_3 and always_use_https to on.",
    controls=TRANSPORT,
    covers={
        **guarded(TABLE),
        _SETTING: (
            Guard("value", wrong=("1.0", "flexible", "off", "On", "1.33"), when=_about_tls),
            Guard("settingId", needed=False),
        ),
        _HOST: (Guard("value", wrong=("1.0", "1.1", "1.33"), when=_about_tls),),
    },
    judge=judge,
)
