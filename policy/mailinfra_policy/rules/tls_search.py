"""Search domains: HTTPS only, a TLS floor, TLS between their nodes."""

from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.tls import SEARCH, TRANSPORT, Floors, Link, Must, Table, guarded, judged_by

_ENDPOINT = (
    Must("domainEndpointOptions.enforceHttps", (True,), default=False),
    Must(
        "domainEndpointOptions.tlsSecurityPolicy",
        SEARCH,
        Link.SERVICES,
        wrong=("Policy-Min-TLS-1-0-2019-07",),
    ),
    Must("nodeToNodeEncryption.enabled", (True,), default=False),
)

TABLE: Table = {
    "aws:opensearch/domain:Domain": _ENDPOINT,
    "aws:elasticsearch/domain:Domain": _ENDPOINT,
    "aws:cloudsearch/domain:Domain": (
        Must("endpointOptions.enforceHttps", (True,), default=False),
        Must(
            "endpointOptions.tlsSecurityPolicy",
            Floors(from12=("Policy-Min-TLS-1-2-2019-07",)),
            Link.SERVICES,
            wrong=("Policy-Min-TLS-1-0-2019-07",),
        ),
    ),
}

RULE = Rule(
    id="tls-search",
    title="Search domains speak TLS only",
    severity=Severity.HIGH,
    why="Search holds the words of the mail; without enforced HTTPS its queries and answers are readable.",
    mend="Set enforceHttps, a tlsSecurityPolicy with a floor of 1.2 and nodeToNodeEncryption.",
    controls=TRANSPORT,
    covers=guarded(TABLE),
    judge=judged_by(TABLE),
)
