"""APIs speak TLS 1.3 and call over TLS."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_api import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

NAME = resource(
    "aws:apigateway/domainName:DomainName", "name", {"securityPolicy": "SecurityPolicy_TLS13_1_3_2025_09"}
)
REST = resource(
    "aws:apigateway/restApi:RestApi", "rest", {"securityPolicy": "SecurityPolicy_TLS13_1_3_FIPS_2025_09"}
)
HIDDEN = resource("aws:apigateway/restApi:RestApi", "hidden", {"disableExecuteApiEndpoint": True})
HTTP_NAME = resource(
    "aws:apigatewayv2/domainName:DomainName",
    "http",
    {"domainNameConfiguration": {"securityPolicy": "TLS_1_2"}},
)
THINGS = resource(
    "aws:iot/domainConfiguration:DomainConfiguration",
    "things",
    {"tlsConfig": {"securityPolicy": "IoTSecurityPolicy_TLS13_1_3_2022_10"}},
)
FUNCTION = resource(
    "gcp:cloudfunctions/function:Function",
    "function",
    {"triggerHttp": True, "httpsTriggerSecurityLevel": "SECURE_ALWAYS"},
)
EVENT = resource("gcp:cloudfunctions/function:Function", "event", {"eventTrigger": {"eventType": "x"}})
ENGINE = resource("gcp:appengine/application:Application", "engine", {"sslPolicy": "MODERN"})
HANDLERS = {"handlers": [{"urlRegex": ".*", "securityLevel": "SECURE_ALWAYS"}]}
STANDARD = resource("gcp:appengine/standardAppVersion:StandardAppVersion", "standard", HANDLERS)
FLEXIBLE = resource("gcp:appengine/flexibleAppVersion:FlexibleAppVersion", "flexible", HANDLERS)
CALL = resource("aws:apigateway/integration:Integration", "call", {"type": "HTTP", "uri": "https://o.test/"})
MOCK = resource("aws:apigateway/integration:Integration", "mock", {"type": "MOCK"})
CALL2 = resource("aws:apigatewayv2/integration:Integration", "call2", {"integrationUri": "arn:aws:lambda:x"})
GOOD = (
    [NAME, REST, HIDDEN],
    [HTTP_NAME],
    [THINGS],
    [FUNCTION, EVENT],
    [ENGINE, STANDARD, FLEXIBLE],
    [CALL, MOCK, CALL2],
)


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (NAME, {"securityPolicy": None}, "securityPolicy"),
        (NAME, {"securityPolicy": "TLS_1_2"}, "securityPolicy"),
        (NAME, {"securityPolicy": "SecurityPolicy_TLS13_1_3_2025_09x"}, "securityPolicy"),
        (NAME, {"securityPolicy": "SecurityPolicy_TLS13_1_2_2021_06"}, "securityPolicy"),
        (HIDDEN, {"disableExecuteApiEndpoint": False}, "securityPolicy"),
        (
            HTTP_NAME,
            {"domainNameConfiguration": {"securityPolicy": "TLS_1_0"}},
            "domainNameConfiguration.securityPolicy",
        ),
        (FUNCTION, {"httpsTriggerSecurityLevel": None}, "httpsTriggerSecurityLevel"),
        (ENGINE, {"sslPolicy": "DEFAULT"}, "sslPolicy"),
        (STANDARD, {"handlers": [{"urlRegex": ".*"}]}, "handlers[0].securityLevel"),
        (CALL, {"uri": "http://o.test/"}, "uri"),
        (CALL, {"tlsConfig": {"insecureSkipVerification": True}}, "tlsConfig.insecureSkipVerification"),
        (CALL2, {"integrationUri": "http://o.test/"}, "integrationUri"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_a_floor_of_12_takes_the_older_policies() -> None:
    assert found(RULE, [changed(NAME, securityPolicy="TLS_1_2")], settings(tls={"public": "1.2"})) == []


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(NAME, securityPolicy=UNKNOWN)])
    assert item.finding.unknown
