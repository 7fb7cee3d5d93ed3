"""Tests of mailinfra.probe.links: only what was tried and turned away counts as refused."""

from typing import Any

import pytest

from mailinfra.probe import links
from tests.probe_helpers import Made

RIGHT = {"outcome": "accepted", "tls": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "why": ""}
WRONG = {"outcome": "refused", "tls": "", "cipher": "", "why": "alert"}


def made(**changes: Any) -> Made:
    def answer(machine: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        tries = []
        for target in told["targets"]:
            for kind in ("right", "tls12", "no-certificate", "wrong-ca"):
                base = RIGHT if kind == "right" else WRONG
                known = {"host": target["host"], "port": target["port"], "kind": kind}
                tries.append({**known, **base, **changes.get(kind, {})})
        return tries

    return Made(scripts={"links": answer})


REFUSALS = {"tls12": links.tls12, "no-certificate": links.no_certificate, "wrong-ca": links.wrong_ca}


def test_every_inner_port_of_every_node_is_tried_from_another_region() -> None:
    fleet = made()
    (finding,) = links.accepted(fleet.site())
    assert (finding.ok, finding.measured) == (True, 14)
    targets = [(machine, target) for machine, _, told in fleet.asked for target in told["targets"]]
    assert sorted({target["port"] for _, target in targets}) == [993, 2525, 2526, 2527]
    site = fleet.site()
    regions = {site.machine(node): node.region for node in site.plan.nodes}
    assert all(regions[machine] != target["region"] for machine, target in targets)
    # A replica is tried by the user's own home, for it lets nobody else in.
    homes = {person.address: person.home for person in site.people}
    replicas = [(machine, target) for machine, target in targets if target["port"] == 2527]
    assert len(replicas) == 4
    assert all(regions[machine] == homes[target["user"]] for machine, target in replicas)
    assert all(site.zone(target["region"]) == site.zone(regions[machine]) for machine, target in replicas)


@pytest.mark.parametrize("kind", REFUSALS)
def test_all_must_be_refused(kind: str) -> None:
    (finding,) = REFUSALS[kind](made().site())
    assert finding.ok
    for outcome in ("accepted", "unreachable"):
        (finding,) = REFUSALS[kind](made(**{kind: {"outcome": outcome}}).site())
        assert not finding.ok
        assert outcome in finding.detail


@pytest.mark.parametrize("change", [{"tls": "TLSv1.2"}, {"outcome": "refused"}, {"outcome": "unreachable"}])
def test_the_right_credentials_must_be_accepted_over_tls_1_3(change: dict[str, str]) -> None:
    (finding,) = links.accepted(made(right=change).site())
    assert not finding.ok
