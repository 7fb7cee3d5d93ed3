"""The probe on a whole fleet: every claim holds, and claims that should fail do."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailinfra import probe
from mailinfra.probe import mail, residency, steering
from mailinfra.probe.row import Row
from mailinfra.probe.site import Site
from mailinfra.sandbox.lifecycle import Sandbox
from tests.system.fleet import UP_SECONDS, silent

pytestmark = [pytest.mark.system, pytest.mark.timeout(UP_SECONDS)]


@pytest.fixture(scope="module")
def rows(fleet_sandbox: Sandbox) -> list[Row]:
    """What the whole probe says."""
    return probe.run(fleet_sandbox, silent())


@pytest.mark.parametrize("claim", [claim.id for claim in probe.CLAIMS])
def test_a_claim_holds(rows: list[Row], claim: str) -> None:
    own = [row for row in rows if row.id == claim]
    assert own
    assert [f"{row.claim}: {row.measured}: {row.detail}" for row in own if not row.ok] == []


def test_the_proof_is_json(rows: list[Row]) -> None:
    document = json.loads(probe.as_json(rows))
    assert len(document["rows"]) == len(rows)
    assert all({"claim", "ok", "measured", "limit", "unit"} <= set(row) for row in document["rows"])


def test_every_country_and_every_zone_is_measured(rows: list[Row], fleet_sandbox: Sandbox) -> None:
    site = Site(fleet_sandbox)
    claims = {row.claim for row in rows}
    for outside in site.outside:
        assert f"A sender's first choice is a near region: {outside.country}" in claims
    for item in fleet_sandbox.plan.steering:
        assert f"A killed mx node leaves the answers: {item.zone}" in claims
    assert len(residency.pairs(site)) == len({node.fqdn for node, _, _ in residency.pairs(site)})


def test_a_key_that_leaked_onto_a_disk_is_reported(rows: list[Row], fleet_sandbox: Sandbox) -> None:
    site = Site(fleet_sandbox)
    machine = site.machine(fleet_sandbox.plan.nodes[0])
    key = rsa.generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = f"/var/tmp/{mail.token()}"
    site.shell(machine, "sh", "-c", f"cat > {path}", stdin=text)
    try:
        found = probe.run(fleet_sandbox, silent(), ["leaks.none"])
    finally:
        site.shell(machine, "rm", path)
    wrong = [row for row in found if not row.ok]
    assert [row.claim for row in wrong] == ["No private DKIM key: nodes' disks"]
    assert path.rpartition("/")[2] in wrong[0].detail
    assert "-----BEGIN" not in wrong[0].detail


def test_a_far_region_is_reported(
    rows: list[Row], fleet_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(fleet_sandbox)
    near = steering.near_regions(fleet_sandbox.plan, site.outside[0].country)
    # The claim's own idea of near is turned round: the same answers must now be wrong.
    monkeypatch.setattr(
        steering,
        "near_regions",
        lambda plan, country: frozenset(region.name for region in plan.regions) - near,
    )
    found = probe.run(fleet_sandbox, silent(), ["steering.near"])
    assert [row.ok for row in found if row.claim.endswith(site.outside[0].country)] == [False]
