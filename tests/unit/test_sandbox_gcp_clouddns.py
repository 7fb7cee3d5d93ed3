from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.clouddns import ManagedZone, RecordSet, rest_record
from mailinfra.sandbox.gcp.http import ApiError
from tests.gcp_helpers import PROJECT, operator

ZONE = f"projects/{PROJECT}/managedZones/mx"


class Dns:
    """Remembers the calls, and answers as the sandbox's DNS does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, method: str, **parameters: Any) -> Any:
        self.calls.append((method, parameters))
        return {"name_servers": ["ns1.clouddns.test."]} if method == "put_zone" else None


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def apis(tmp_path_factory: pytest.TempPathFactory, dns: Dns) -> Iterator[GoogleApis]:
    made = GoogleApis(tmp_path_factory.mktemp("gcp"))
    made.resources.add("managedZone", ManagedZone(made.store, dns))
    made.resources.add("recordSet", RecordSet(made.store, dns))
    yield made
    made.close()


def call(
    apis: GoogleApis, method: str, kind: str, name: str, inputs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return operator(apis)(method, f"/sandbox/{kind}/{quote(name, safe='')}", inputs)


def test_a_zone_is_served_and_signed(apis: GoogleApis, dns: Dns) -> None:
    made = call(
        apis,
        "POST",
        "managedZone",
        ZONE,
        {"name": "mx", "dnsName": "mx.example.test.", "dnssecConfig": {"state": "on"}},
    )
    assert made["outputs"]["nameServers"] == ["ns1.clouddns.test."]
    assert dns.calls == [
        ("put_zone", {"provider": "clouddns", "zone": "mx.example.test."}),
        ("set_dnssec", {"provider": "clouddns", "zone": "mx.example.test.", "on": True}),
    ]
    assert call(apis, "GET", "managedZone", ZONE)["outputs"] == made["outputs"]


def test_a_zone_with_records_stays_unless_forced(apis: GoogleApis, dns: Dns) -> None:
    inputs = {"name": "mx", "dnsName": "mx.example.test."}
    call(apis, "POST", "managedZone", ZONE, inputs)
    record = {"managedZone": "mx", "name": "a.mx.example.test.", "type": "A", "rrdatas": ["192.0.2.1"]}
    call(apis, "POST", "recordSet", f"{ZONE}/rrsets/a.mx.example.test./A", record)
    with pytest.raises(ApiError, match="already being used"):
        call(apis, "DELETE", "managedZone", ZONE)
    call(apis, "PATCH", "managedZone", ZONE, {**inputs, "forceDestroy": True})
    call(apis, "DELETE", "managedZone", ZONE)
    assert dns.calls[-1][0] == "delete_zone"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"name": "a.other.test."}, "is not in the zone"),
        ({"name": "amx.example.test."}, "is not in the zone"),
        ({"managedZone": "none"}, "does not exist"),
        ({"routingPolicy": {"wrrs": []}}, "Exactly one"),
        ({"type": "NAPTR", "rrdatas": None, "routingPolicy": {"wrrs": []}}, "Routing policies are for"),
    ],
)
def test_a_record_that_cannot_be_is_refused(apis: GoogleApis, inputs: dict[str, Any], message: str) -> None:
    call(apis, "POST", "managedZone", ZONE, {"name": "mx", "dnsName": "mx.example.test."})
    whole = {
        "managedZone": "mx",
        "name": "a.mx.example.test.",
        "type": "A",
        "rrdatas": ["192.0.2.1"],
        **inputs,
    }
    whole = {key: value for key, value in whole.items() if value is not None}
    with pytest.raises(ApiError, match=message):
        call(apis, "POST", "recordSet", f"{ZONE}/rrsets/x", whole)


def test_routing_policies_become_what_the_api_has() -> None:
    targets = {"healthCheckedTargets": {"externalEndpoints": ["198.51.100.200"]}}
    geo = rest_record(
        {
            "name": "mx1.example.test.",
            "type": "A",
            "ttl": 60,
            "routingPolicy": {
                "geos": [{"location": "europe-west3", **targets}],
                "enableGeoFencing": True,
                "healthCheck": f"projects/{PROJECT}/global/healthChecks/smtp",
            },
        }
    )
    assert geo["routingPolicy"] == {
        "geo": {"items": [{"location": "europe-west3", **targets}], "enableFencing": True},
        "healthCheck": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/healthChecks/smtp",
    }
    weighted = rest_record(
        {"name": "n.", "type": "MX", "routingPolicy": {"wrrs": [{"weight": 0.5, "rrdatas": ["10 a."]}]}}
    )
    assert weighted["routingPolicy"] == {"wrr": {"items": [{"weight": 0.5, "rrdatas": ["10 a."]}]}}
    backup = rest_record(
        {
            "name": "n.",
            "type": "A",
            "routingPolicy": {
                "primaryBackup": {
                    "primary": {"externalEndpoints": ["198.51.100.200"]},
                    "backupGeos": [{"location": "us-east1", "rrdatas": ["198.51.100.201"]}],
                    "trickleRatio": 0.1,
                }
            },
        }
    )
    assert backup["routingPolicy"]["primaryBackup"] == {
        "primaryTargets": {"externalEndpoints": ["198.51.100.200"]},
        "backupGeoTargets": {
            "items": [{"location": "us-east1", "rrdatas": ["198.51.100.201"]}],
            "enableFencing": False,
        },
        "trickleTraffic": 0.1,
    }
