"""APIs and functions: TLS 1.3 at their names, no plain text behind them."""

from collections.abc import Iterator

from mailinfra_policy.expect import holds
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import API_GATEWAY, IOT, TRANSPORT, Floors, Link, Must, Table, guarded, judged_by


def _open(resource: Resource) -> bool:
    """Whether the API answers under its own name at execute-api."""
    return resource.get("disableExecuteApiEndpoint") is not True


def _triggered(resource: Resource) -> bool:
    return resource.get("triggerHttp") not in (None, False)


TABLE: Table = {
    "aws:apigateway/domainName:DomainName": (Must("securityPolicy", API_GATEWAY, wrong=("TLS_1_0",)),),
    "aws:apigateway/restApi:RestApi": (Must("securityPolicy", API_GATEWAY, when=_open, wrong=("TLS_1_0",)),),
    # HTTP and WebSocket APIs know no policy newer than TLS_1_2.
    "aws:apigatewayv2/domainName:DomainName": (
        Must(
            "domainNameConfiguration.securityPolicy",
            Floors(from12=("TLS_1_2",)),
            Link.SERVICES,
            wrong=("TLS_1_0",),
        ),
    ),
    "aws:iot/domainConfiguration:DomainConfiguration": (
        Must("tlsConfig.securityPolicy", IOT, wrong=("IoTSecurityPolicy_TLS12_1_0_2016_01",)),
    ),
    "gcp:cloudfunctions/function:Function": (
        Must("httpsTriggerSecurityLevel", ("SECURE_ALWAYS",), when=_triggered, wrong=("SECURE_OPTIONAL",)),
    ),
    "gcp:appengine/application:Application": (
        Must("sslPolicy", Floors(from12=("MODERN",)), Link.SERVICES, default="DEFAULT", wrong=("DEFAULT",)),
    ),
    "gcp:appengine/standardAppVersion:StandardAppVersion": (
        Must("handlers[*].securityLevel", ("SECURE_ALWAYS",), wrong=("SECURE_OPTIONAL", "SECURE_NEVER")),
    ),
    "gcp:appengine/flexibleAppVersion:FlexibleAppVersion": (
        Must("handlers[*].securityLevel", ("SECURE_ALWAYS",), wrong=("SECURE_OPTIONAL", "SECURE_NEVER")),
    ),
}
_table = judged_by(TABLE)
_BEHIND = {
    "aws:apigateway/integration:Integration": "uri",
    "aws:apigatewayv2/integration:Integration": "integrationUri",
}
_ALLOWED = "an https:// address or the ARN of a service"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table; what an integration calls is https or one of the cloud's own services."""
    yield from _table(resource, context)
    if path := _BEHIND.get(resource.type):
        # Mock integrations call nothing.
        yield from holds(
            resource,
            path,
            lambda value: str(value).startswith(("https://", "arn:")),
            _ALLOWED,
            default="arn:",
        )
    if resource.type == "aws:apigateway/integration:Integration":
        yield from Must("tlsConfig.insecureSkipVerification", (False,), default=False).judge(
            resource, context.config.tls
        )


RULE = Rule(
    id="tls-api",
    title="APIs speak TLS 1.3 and call over TLS",
    severity=Severity.HIGH,
    why="An API takes whatever its name's security policy lets in; the older ones let in TLS 1.0.",
    mend="Set securityPolicy to SecurityPolicy_TLS13_1_3_2025_09 (or let the API answer under such a name only) and "
    "call https addresses.",
    controls=TRANSPORT,
    covers={
        **guarded(TABLE),
        "aws:apigateway/integration:Integration": (
            Guard("uri", wrong=("http://192.0.2.1/", "HTTPS//x"), needed=False),
            Guard("tlsConfig.insecureSkipVerification", wrong=(True,), needed=False),
        ),
        "aws:apigatewayv2/integration:Integration": (
            Guard("integrationUri", wrong=("http://192.0.2.1/",), needed=False),
        ),
    },
    judge=judge,
)
