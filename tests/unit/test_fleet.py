"""Any config is accepted and plans, or is refused with paths; never another exception."""

import copy
import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet, MxPolicy, Role, Size, SteeringProvider
from mailinfra.places import PLACES
from mailinfra.plan import FleetPlan, node_spec, plan
from tests.fleets import STACKS, config

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "eu", "10.0.0.0/24"]),
)
GARBAGE = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
LABELS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
REGIONS = ["eu-central-1", "eu-west-1", "us-east-1", "us-west-2", "europe-west3", "us-central1", "us-east1"]
COUNTRIES = st.sampled_from(["DE", "US", "JP", "GB", "IE", "SG"])


def judge(data: Any) -> FleetPlan | None:
    """The plan of a config, None if it is refused; anything else fails the test."""
    try:
        one = Fleet.load(copy.deepcopy(data))
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.path
            assert problem.found
            assert problem.allowed
        return None
    made = plan(one)
    assert made == plan(Fleet.load(copy.deepcopy(data)))
    return made


def check_plan(made: FleetPlan) -> None:
    """What holds for every plan."""
    assert len({node.fqdn for node in made.nodes}) == len(made.nodes)
    assert len({node.address.private_ipv4 for node in made.nodes}) == len(made.nodes)
    for region in made.regions:
        network = ipaddress.IPv4Network(region.network.cidr)
        for node in region.nodes:
            subnet = ipaddress.IPv4Network(region.network.subnets[node.address.subnet].cidr)
            assert ipaddress.IPv4Address(node.address.private_ipv4) in subnet
            assert subnet.subnet_of(network)
            assert len(node.fqdn) <= 253
            spec = node_spec(made, node, control_bucket="b", ca_key="k", signing_reference="r")
            assert spec.hostname == node.fqdn
            assert (spec.signing is not None) == (Role.SUBMISSION in node.roles)
        assert sum(group.is_issuer for group in region.groups) == 1
    for record in made.records:
        assert len(record.name) <= 253
        assert bool(record.values) != (record.needs is not None)
    for steering in made.steering:
        assert bool(steering.route53) != bool(steering.clouddns)
        assert all(item.weight is None or 0 <= item.weight <= 255 for item in steering.route53)
        assert all(item.hosts for each in steering.clouddns for item in each.items)


def _groups(draw: st.DrawFn, cloud: str, careful: bool) -> list[dict[str, Any]]:
    """Random node groups; careful ones have every role that a region may have, and egress only where it may be."""
    able = [role.value for role in Role if cloud == "aws" or role is not Role.EGRESS]
    roles = able if careful else [role.value for role in Role]
    groups = [
        {
            "name": f"g{index}",
            "roles": draw(st.lists(st.sampled_from(roles), min_size=1, max_size=6, unique=True)),
            "count": draw(st.integers(0, 4)),
            "size": draw(st.sampled_from([size.value for size in Size])),
        }
        for index in range(draw(st.integers(0 if careful else 1, 3)))
    ]
    whole = {"name": "all", "roles": draw(st.permutations(able)), "count": draw(st.integers(1, 4))}
    return [*groups, whole] if careful else groups


@st.composite
def shaped(draw: st.DrawFn) -> dict[str, Any]:
    """A config of the right shape. Half of them are made with care, and fit together; the rest may."""
    careful = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(REGIONS), min_size=1, max_size=6, unique=True))
    if careful:
        names = list(dict.fromkeys(["eu-central-1", "us-east-1", *names]))
    regions = [
        {
            "cloud": PLACES[name].cloud.value,
            "region": name,
            "zone": "us" if PLACES[name].country == "US" else "eu",
            "network": f"10.{number if careful or draw(st.booleans()) else 0}.0.0/"
            f"{draw(st.integers(18, 21) if careful else st.integers(20, 27))}",
            "groups": _groups(draw, PLACES[name].cloud.value, careful),
            "weight": draw(st.integers(1 if careful else 0, 255)),
        }
        for number, name in enumerate(names)
    ]
    zones = {"eu": {"countries": ["DE", "BE", "NL", "FI", "IE"]}, "us": {"countries": ["US"]}}
    domains = st.sampled_from(["a.test", "b.test", "d.test"] if careful else ["a.test", "c.a.test"])
    providers = draw(
        st.lists(st.sampled_from(list(SteeringProvider)), min_size=2 if careful else 0, max_size=4)
    )
    policies = [MxPolicy.GEO, MxPolicy.WEIGHTED]
    if not careful or SteeringProvider.CLOUDDNS not in providers:
        policies.append(MxPolicy.LATENCY)
    return {
        "name": draw(LABELS),
        "domains": draw(st.lists(domains, min_size=1, max_size=3, unique=careful)),
        "zones": {name: zone for name, zone in zones.items() if careful or draw(st.booleans())},
        "regions": regions,
        "mx": {
            "policy": draw(st.sampled_from(policies)).value,
            "primaries": [] if careful else draw(st.lists(st.sampled_from(names), max_size=3)),
        },
        "dns": {
            "parent": {"provider": draw(st.sampled_from(["route53", "clouddns"]))},
            "steering": [{"provider": item.value, "label": f"s{n}"} for n, item in enumerate(providers)],
        },
        "placement": {
            "rules": [
                {"attribute": "country", "values": [draw(COUNTRIES)], "home": draw(st.sampled_from(names))}
            ],
            "default": draw(st.sampled_from(names)),
        },
        "clouds": {"gcp": {"project": "some-project"}},
    }


@settings(max_examples=100)
@given(shaped())
def test_a_config_of_the_right_shape(data: dict[str, Any]) -> None:
    made = judge(data)
    if made is not None:
        check_plan(made)


def _paths(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(path for key, value in below for path in _paths(value, (*here, key)))]


@settings(max_examples=150)
@given(st.sampled_from(STACKS), st.data())
def test_a_stack_with_something_changed(stack: str, data: st.DataObject) -> None:
    one = config(stack)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([path for path in _paths(one) if path]))
        target = one
        for part in way:
            target = target[part]
        change = data.draw(st.sampled_from(["replace", "delete", "double", "other"]))
        if change == "delete":
            del target[last]
        elif change == "double" and isinstance(target, list):
            target.append(copy.deepcopy(target[last]))
        elif change == "other":
            source: Any = one
            for part in data.draw(st.sampled_from(_paths(one))):
                source = source[part]
            target[last] = copy.deepcopy(source)
        else:
            target[last] = data.draw(GARBAGE)
    made = judge(one)
    if made is not None:
        check_plan(made)


@settings(max_examples=200)
@given(GARBAGE)
def test_garbage(data: Any) -> None:
    assert judge(data) is None


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(Fleet.model_fields)), GARBAGE))
def test_garbage_in_known_fields(data: dict[str, Any]) -> None:
    assert judge(data) is None


@pytest.mark.parametrize("stack", STACKS)
def test_the_stacks_plan(stack: str) -> None:
    made = judge(config(stack))
    assert made is not None
    check_plan(made)


def test_a_loaded_fleet_is_frozen() -> None:
    one = Fleet.load(config())
    with pytest.raises(ValueError, match="frozen"):
        one.name = "other"  # type: ignore[misc]


def test_regions_by_name() -> None:
    one = Fleet.load(config())
    assert one.region("us-east-1").zone == "us"
    with pytest.raises(KeyError):
        one.region("nowhere")
    assert one.primary_domain == "example.test"
