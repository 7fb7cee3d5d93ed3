"""Tests of mailinfra.probe.failover: what the flows' records say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from mailinfra.fleet import Fleet, Role
from mailinfra.plan import FleetPlan, plan
from mailinfra.probe import failover
from mailinfra.probe.row import ProbeError
from mailinfra.probe.site import Site
from mailinfra.sandbox.dns.outside import OUTSIDE_HOSTS

STACK = Path(__file__).parents[2] / "stacks" / "Pulumi.sandbox.yaml"
DEAD = "198.51.100.1"
KILLED = 1000.0


def planned(drop: int = 0) -> FleetPlan:
    declared = yaml.safe_load(STACK.read_text())["config"]["mailinfra:fleet"]
    if drop:
        for region in declared["regions"][-drop:]:
            for group in region["groups"]:
                group["roles"] = [role for role in group["roles"] if role != "mx"] or ["imap"]
    return plan(Fleet.load(declared)) if not drop else plan(Fleet.model_validate(declared))


def site(outage: failover.Outage | None, whole: FleetPlan) -> Site:
    fake = SimpleNamespace(
        plan=whole,
        outside=OUTSIDE_HOSTS,
        once=lambda work: outage,
        addresses=lambda fqdn: (DEAD,),
        nodes=lambda role: tuple(node for node in whole.nodes if role in node.roles),
    )
    return cast(Site, fake)


def outage(whole: FleetPlan, **changes: Any) -> failover.Outage:
    node = next(node for node in whole.nodes if Role.MX in node.roles)
    answers = {
        "outside-de": [
            {"host": host, "last": KILLED + 25.0, "ttl": 60, "left": True, "back": None}
            for host in whole.mx_hosts
        ]
    }
    answers["outside-de"][0]["back"] = KILLED + 130.0
    ledger = [
        {"id": "t-0-1", "at": KILLED - 1, "address": DEAD, "to": "a@example.test"},
        {"id": "t-0-2", "at": KILLED + 5, "address": "198.51.100.2", "to": "b@example.test"},
    ]
    flow = {"sent": 2, "ledger": ledger, "cut": [], "failed": [], "resolved": [[KILLED + 70, "mx1"]]}
    fields: dict[str, Any] = {
        "node": node,
        "killed": KILLED,
        "flows": {"outside-de": flow},
        "answers": answers,
        "collected": ["t-0-1", "t-0-2"],
        "problems": [],
    }
    return failover.Outage(**{**fields, **changes})


def test_limits_come_from_the_plan() -> None:
    whole = planned()
    by_zone = {item.zone: item for item in whole.steering}
    health = whole.fleet.mx.health
    aws = by_zone["aws.mx.example.test"]
    assert failover.detection_seconds(aws) == health.interval_seconds * health.failures
    assert failover.longest_ttl(aws) == whole.fleet.mx.ttl_seconds
    probe = by_zone["gcp.mx.example.test"].clouddns_probe
    assert probe
    assert (
        failover.detection_seconds(by_zone["gcp.mx.example.test"]) == probe.interval_seconds * probe.failures
    )


def test_the_victim_is_an_mx_node_that_others_can_stand_in_for() -> None:
    whole = planned()
    chosen = failover.victim(site(None, whole))
    assert Role.MX in chosen.roles
    assert chosen.region in {"eu-central-1", "europe-west3"}
    with pytest.raises(ProbeError, match="one region only"):
        failover.victim(site(None, planned(drop=3)))


def test_a_node_that_leaves_in_time_is_right_in_every_zone() -> None:
    whole = planned()
    found = list(failover.leaves(site(outage(whole), whole)))
    assert [item.subject for item in found] == [item.zone for item in whole.steering]
    assert all(item.ok and item.measured == 85.0 for item in found)


def test_a_node_that_leaves_late_or_never_is_wrong() -> None:
    whole = planned()
    late = outage(whole)
    for answer in late.answers["outside-de"]:
        answer["last"] = KILLED + 200
    assert not any(item.ok for item in failover.leaves(site(late, whole)))
    never = outage(whole)
    for answer in never.answers["outside-de"]:
        answer["left"] = False
    assert not any(item.ok for item in failover.leaves(site(never, whole)))
    unseen = outage(whole)
    for answer in unseen.answers["outside-de"]:
        answer["last"] = None
    assert not any(item.ok for item in failover.leaves(site(unseen, whole)))


def test_coming_back_is_the_first_answer_again() -> None:
    whole = planned()
    (found,) = failover.comes_back(site(outage(whole), whole))
    assert (found.ok, found.measured) == (True, 130.0)
    gone = outage(whole)
    gone.answers["outside-de"][0]["back"] = None
    (found,) = failover.comes_back(site(gone, whole))
    assert not found.ok


def test_what_was_accepted_and_is_nowhere_is_lost() -> None:
    whole = planned()
    (found,) = failover.nothing_lost(site(outage(whole), whole))
    assert (found.ok, found.measured, found.unit) == (True, 0, "lost of 2 accepted")
    (found,) = failover.nothing_lost(site(outage(whole, collected=["t-0-1"]), whole))
    assert (found.ok, found.measured) == (False, 1)
    assert "t-0-2" in found.detail
    (found,) = failover.nothing_lost(site(outage(whole, problems=["a: cannot log in"]), whole))
    assert not found.ok
    (found,) = failover.nothing_lost(site(outage(whole, flows={}, collected=[]), whole))
    assert not found.ok


def test_only_the_dead_node_explains_a_second_copy() -> None:
    whole = planned()
    (found,) = failover.doubled(site(outage(whole, collected=["t-0-1", "t-0-1", "t-0-2"]), whole))
    assert (found.ok, found.measured) == (True, 1)
    (found,) = failover.doubled(site(outage(whole, collected=["t-0-1", "t-0-2", "t-0-2"]), whole))
    assert not found.ok
    assert "t-0-2" in found.detail


def test_senders_that_are_led_there_too_long_are_seen() -> None:
    whole = planned()
    (found,) = failover.senders_turn(site(outage(whole), whole))
    assert (found.ok, found.measured) == (True, 70.0)
    late = outage(whole)
    late.answers["outside-de"][0]["back"] = KILLED + 900
    late.flows["outside-de"]["resolved"] = [[KILLED + 800, "mx1"]]
    (found,) = failover.senders_turn(site(late, whole))
    assert not found.ok


def test_a_message_that_nobody_took_is_a_failure() -> None:
    whole = planned()
    done = outage(whole)
    done.flows["outside-de"]["failed"] = ["t-0-3"]
    (found,) = failover.all_taken(site(done, whole))
    assert (found.ok, found.measured) == (False, 1)
