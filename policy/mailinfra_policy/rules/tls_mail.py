"""Mail services of the clouds: TLS required towards and from other servers."""

from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.tls import MAIL, Must, Table, guarded, judged_by

TABLE: Table = {
    "aws:ses/configurationSet:ConfigurationSet": (
        Must("deliveryOptions.tlsPolicy", ("Require",), default="Optional", wrong=("Optional",)),
    ),
    "aws:sesv2/configurationSet:ConfigurationSet": (
        Must("deliveryOptions.tlsPolicy", ("REQUIRE",), default="OPTIONAL", wrong=("OPTIONAL",)),
        Must(
            "httpsPolicy",
            ("REQUIRE", "REQUIRE_OPEN_ONLY"),
            default="OPTIONAL",
            under="trackingOptions",
            wrong=("OPTIONAL",),
        ),
    ),
    "aws:ses/receiptRule:ReceiptRule": (
        Must("tlsPolicy", ("Require",), default="Optional", wrong=("Optional",)),
    ),
    "aws:mailmanager/ingressPoint:IngressPoint": (
        Must("tlsPolicy", ("REQUIRED", "FIPS"), default="REQUIRED", wrong=("OPTIONAL",)),
    ),
    "cloudflare:index/emailSecurityDomain:EmailSecurityDomain": (
        Must("requireTlsInbound", (True,)),
        Must("requireTlsOutbound", (True,)),
    ),
}

RULE = Rule(
    id="tls-mail",
    title="Mail services require TLS",
    severity=Severity.HIGH,
    why="With an optional policy a mail service falls back to plain text whenever someone on the way strips STARTTLS.",
    mend="Set the TLS policy to require.",
    controls=MAIL,
    covers=guarded(TABLE),
    judge=judged_by(TABLE),
)
