"""Listeners of load balancers speak TLS 1.3."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_listener import RULE
from mailinfra_policy.tls import ELB
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

POLICY = "ELBSecurityPolicy-TLS13-1-3-2021-06"
FORWARD = [{"type": "forward", "targetGroupArn": "arn:x"}]
REDIRECT = [{"type": "redirect", "redirect": {"protocol": "HTTPS", "port": "443", "statusCode": "HTTP_301"}}]


def listener(name: str, kind: str = "lb", **props: Any) -> Resource:
    return resource(f"aws:{kind}/listener:Listener", name, props, outputs={"arn": f"arn:{name}"})


WEB = listener("web", port=443, protocol="HTTPS", sslPolicy=POLICY, defaultActions=FORWARD)
PLAIN = listener("plain", "alb", port=80, protocol="HTTP", defaultActions=REDIRECT)
IMAP = listener("imap", port=993, protocol="TCP", defaultActions=FORWARD)
GATEWAY = resource("aws:lb/listener:Listener", "gateway", {"defaultActions": FORWARD})
PLAIN_NEW = listener("plain-new", port=80, protocol="HTTP", defaultActions=REDIRECT)
OLD = listener("old", "alb", port=993, protocol="TLS", sslPolicy=POLICY)
PATH = resource("aws:lb/listenerRule:ListenerRule", "path", {"listenerArn": "arn:plain", "actions": REDIRECT})
PATH_OLD = resource(
    "aws:alb/listenerRule:ListenerRule", "path", {"listenerArn": "arn:plain", "actions": REDIRECT}
)
SECURE = resource(
    "aws:lb/listenerRule:ListenerRule", "secure", {"listenerArn": "arn:web", "actions": FORWARD}
)
LATTICE = resource("aws:vpclattice/listener:Listener", "lattice", {"protocol": "HTTPS"})
GOOD = ([WEB, SECURE], [PLAIN, PATH], [PLAIN, PATH_OLD], [IMAP], [OLD, PLAIN_NEW], [LATTICE])


@pytest.mark.parametrize("policy", ELB.only13)
def test_a_policy_with_a_floor_of_13(policy: str) -> None:
    assert found(RULE, [changed(WEB, sslPolicy=policy)]) == []


@pytest.mark.parametrize(
    "policy",
    [
        *ELB.from12,
        "ELBSecurityPolicy-2016-08",
        "ELBSecurityPolicy-TLS13-1-0-2021-06",
        "ELBSecurityPolicy-TLS13-1-3-2021-06x",
        "ELBSELBSecurityPolicy-TLS13-1-3-2021-06",
        "elbsecuritypolicy-tls13-1-3-2021-06",
        " ELBSecurityPolicy-TLS13-1-3-2021-06",
        "",
        None,
    ],
)
def test_another_one_is_named(policy: str | None) -> None:
    assert places(RULE, [changed(WEB, sslPolicy=policy)]) == [("web", "sslPolicy")]


def test_the_floor_is_configurable() -> None:
    older = settings(tls={"public": "1.2"})
    assert all(found(RULE, [changed(WEB, sslPolicy=policy)], older) == [] for policy in ELB.from12)
    assert len(found(RULE, [changed(WEB, sslPolicy="ELBSecurityPolicy-TLS13-1-1-2021-06")], older)) == 1


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (changed(PLAIN, defaultActions=FORWARD), "defaultActions[0].type"),
        (changed(PLAIN, defaultActions=[]), "defaultActions[0].type"),
        (changed(PLAIN, defaultActions=[*REDIRECT, *FORWARD]), "defaultActions[1].type"),
        (
            changed(PLAIN, defaultActions=[{"type": "redirect", "redirect": {"port": "81"}}]),
            "defaultActions[0].redirect.protocol",
        ),
        (changed(PLAIN, protocol=None), "protocol"),
        (changed(IMAP, protocol="tcp"), "protocol"),
        (changed(LATTICE, protocol="HTTP"), "protocol"),
        (changed(PATH, actions=FORWARD, listenerArn="arn:elsewhere"), "actions[0].type"),
    ],
)
def test_plain_text_is_named(item: Resource, path: str) -> None:
    assert places(RULE, [item]) == [(item.name, path)]


def test_a_rule_forwards_behind_tls_only() -> None:
    assert places(RULE, [PLAIN, changed(PATH, actions=FORWARD)]) == [("path", "actions[0].type")]
    assert found(RULE, [WEB, changed(PATH, listenerArn="arn:web", actions=FORWARD)]) == []


def test_a_gateway_balancer_has_no_protocol() -> None:
    assert found(RULE, [GATEWAY]) == []


@pytest.mark.parametrize(
    "props", [{"sslPolicy": UNKNOWN}, {"protocol": UNKNOWN}, {"protocol": "HTTP", "defaultActions": UNKNOWN}]
)
def test_unknown_is_found(props: dict[str, Any]) -> None:
    (item,) = found(RULE, [changed(WEB, **props)])
    assert item.finding.unknown
