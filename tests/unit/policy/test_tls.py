"""What the TLS rules share, against what the clouds' own interfaces say."""

from typing import Any

import botocore.session
import pytest
from moto.elbv2.ssl_policies import SSL_POLICIES

from mailinfra_policy.config import Tls
from mailinfra_policy.tls import API_GATEWAY, CLOUDFRONT, ELB, SEARCH, Floors, Link, Must, floor
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import resource


def versions(policy: Any) -> set[str]:
    """The TLS versions of a balancer's policy, as its interface tells them."""
    return set(policy.get("ssl_protocols") or policy["sslProtocols"])


@pytest.mark.parametrize("name", sorted(SSL_POLICIES))
def test_balancers_policies_have_the_floor_that_is_said(name: str) -> None:
    let_in = versions(SSL_POLICIES[name])
    assert (name in ELB.only13) == (let_in == {"TLSv1.3"})
    if name in ELB.from12:
        assert let_in <= {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize(
    ("service", "shape", "floors"),
    [
        ("cloudfront", "MinimumProtocolVersion", CLOUDFRONT),
        ("apigateway", "SecurityPolicy", API_GATEWAY),
        ("opensearch", "TLSSecurityPolicy", SEARCH),
    ],
)
def test_every_value_exists(service: str, shape: str, floors: Floors) -> None:
    model = botocore.session.get_session().get_service_model(service)
    assert set(floors.allowed("1.2")) <= set(model.shape_for(shape).enum)


def test_floors() -> None:
    floors = Floors(from12=("a",), only13=("b",))
    assert floors.allowed("1.3") == ("b",)
    assert floors.allowed("1.2") == ("b", "a")
    assert {link: floor(Tls(), link) for link in Link} == {
        Link.PUBLIC: "1.3",
        Link.CLIENTS: "1.3",
        Link.INTERNET: "1.2",
        Link.FLEET: "1.3",
        Link.SERVICES: "1.2",
    }


def judged(must: Must, props: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(item.path, item.unknown) for item in must.judge(resource("x:y/z:Z", "it", props), Tls())]


def test_a_property_of_what_may_be_there() -> None:
    must = Must("c", ("x",), under="a[*].b")
    assert judged(must, {}) == []
    assert judged(must, {"a": [{}, {"b": {}}, {"b": {"c": "x"}}, {"b": UNKNOWN}, {"b": {"c": UNKNOWN}}]}) == [
        ("a[1].b.c", False),
        ("a[3].b.c", True),
        ("a[4].b.c", True),
    ]


def test_a_default_and_a_condition() -> None:
    assert judged(Must("a", ("x",), default="x"), {}) == []
    assert judged(Must("a", ("x",), default="y"), {}) == [("a", False)]
    assert judged(Must("a", ("x",), when=lambda resource: False), {}) == []
    assert judged(Must("a", (True,)), {"a": 1}) == [("a", False)]


def test_a_guard_spoils_with_a_typo_and_a_weaker_value() -> None:
    guard = Must("a", Floors(from12=("old",), only13=("new",)), wrong=("plain",)).guard
    assert guard.wrong == ("plain", "old", "newx", "NEW")
    assert guard.needed
    assert not Must("a", (True,), default=True).guard.needed
