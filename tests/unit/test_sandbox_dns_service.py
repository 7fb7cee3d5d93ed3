"""The DNS part of the daemon where machines cannot be booted: everything is checked and kept."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailinfra.sandbox import control
from mailinfra.sandbox.context import Context, StateFile
from mailinfra.sandbox.dns.service import Service
from mailinfra.sandbox.pki import Authority

Call = Callable[..., Any]
WEIGHTED = {
    "Name": "mx1.example.test",
    "Type": "A",
    "TTL": 60,
    "SetIdentifier": "a",
    "Weight": 1,
    "HealthCheckId": "h1",
    "ResourceRecords": [{"Value": "192.0.2.1"}],
}
CHECK = {"Type": "TCP", "IPAddress": "192.0.2.1", "Port": 25}


def started(folder: Path) -> tuple[Service, Call]:
    """A service as the daemon starts it, and its control socket."""
    files: dict[str, Any] = {}
    context = SimpleNamespace(
        state=lambda name: StateFile(folder / f"{name}.json"),
        authority=Authority.ensure(folder / "pki"),
        add_files=files.update,
        network=None,
    )
    service = Service()
    service.start(cast("Context", context))
    methods = service.methods()
    return service, lambda method, **params: methods[method](**params)


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return started(tmp_path)[1]


def test_a_zone_has_name_servers_and_a_key(call: Call) -> None:
    zone = call("put_zone", provider="route53", zone="Example.test")
    assert zone == {
        "zone": "example.test.",
        "provider": "route53",
        "name_servers": [f"ns{n}.route53.test." for n in (1, 2, 3, 4)],
        "addresses": ["192.0.2.12"],
        "dnssec": False,
    }
    before = call("zone_ds", provider="route53", zone="example.test")
    assert before["algorithm"] == 13
    assert not before["signed"]
    assert call("set_dnssec", provider="route53", zone="example.test.", on=True) == {**before, "signed": True}
    assert call("put_zone", provider="route53", zone="example.test")["dnssec"]
    assert call("set_dnssec", provider="route53", zone="example.test.", on=False) is None


def test_everything_outlives_the_daemon(tmp_path: Path) -> None:
    service, call = started(tmp_path)
    call("put_zone", provider="route53", zone="example.test")
    call(
        "put_records",
        provider="route53",
        zone="example.test",
        records=[WEIGHTED],
        health_checks={"h1": CHECK},
    )
    ds = call("set_dnssec", provider="route53", zone="example.test", on=True)
    anchor = service.root_trust_anchor()
    service.stop()
    service, call = started(tmp_path)
    assert call("list_records", provider="route53", zone="example.test") == [WEIGHTED]
    assert call("zone_ds", provider="route53", zone="example.test") == ds
    assert service.root_trust_anchor() == anchor


def test_a_refused_change_changes_nothing(call: Call) -> None:
    call("put_zone", provider="route53", zone="example.test")
    good = {**WEIGHTED, "HealthCheckId": None}
    call("put_records", provider="route53", zone="example.test", records=[good])
    bad = {**WEIGHTED, "SetIdentifier": "b", "Weight": 999}
    with pytest.raises(control.InvalidParams, match="Weight 999"):
        call(
            "put_records", provider="route53", zone="example.test", records=[bad], health_checks={"h9": CHECK}
        )
    with pytest.raises(control.InvalidParams, match="Weight 999"):
        call("put_record", provider="route53", zone="example.test", record=bad)
    assert call("list_records", provider="route53", zone="example.test") == [good]
    with pytest.raises(control.NotFound, match="no health check 'h9'"):
        call("health", provider="route53", id="h9")


def test_records_come_and_go_one_by_one(call: Call) -> None:
    call("put_zone", provider="cloudflare", zone="example.test")
    where = {"provider": "cloudflare", "zone": "example.test"}
    made = call("put_record", **where, record={"name": "a", "type": "A", "content": "192.0.2.1"})
    assert made["id"]
    changed = call("put_record", **where, record={**made, "content": "192.0.2.2"})
    assert call("list_records", **where) == [changed]
    call("delete_record", **where, record={"id": made["id"]})
    call("delete_record", **where, record={"id": made["id"]})
    assert call("list_records", **where) == []
    call("put_zone", provider="clouddns", zone="gcp.test")
    one = {"name": "a.gcp.test", "type": "A", "ttl": 60, "rrdatas": ["192.0.2.1"]}
    call("put_record", provider="clouddns", zone="gcp.test", record=one)
    call("put_record", provider="clouddns", zone="gcp.test", record={**one, "ttl": 30})
    assert [r["ttl"] for r in call("list_records", provider="clouddns", zone="gcp.test")] == [30]


def test_a_health_check_in_use_stays(call: Call) -> None:
    call("put_zone", provider="route53", zone="example.test")
    call("put_health_check", provider="route53", id="h1", config=CHECK)
    call("put_record", provider="route53", zone="example.test", record=WEIGHTED)
    assert call("health", provider="route53", id="h1") == {
        "healthy": True,
        "since": None,
        "probed": False,
        "detail": "not probed",
    }
    with pytest.raises(control.InvalidParams, match="'h1' does not exist"):
        call("delete_health_check", provider="route53", id="h1")
    call("delete_record", provider="route53", zone="example.test", record=WEIGHTED)
    call("delete_health_check", provider="route53", id="h1")
    with pytest.raises(control.NotFound):
        call("health", provider="route53", id="h1")


def test_it_says_that_nothing_is_served(call: Call) -> None:
    call("put_zone", provider="route53", zone="example.test")
    status = call("status")
    assert not status["serving"]
    assert "not served" in status["why"]
    assert status["zones"] == [
        {"zone": "example.test.", "provider": "route53", "signed": False, "records": 0}
    ]


@pytest.mark.parametrize(
    ("method", "params", "error", "message"),
    [
        ("put_zone", {"provider": "bind", "zone": "a.test"}, control.InvalidParams, "allowed are route53"),
        (
            "put_zone",
            {"provider": "route53", "zone": "example.com"},
            control.InvalidParams,
            "below test. only",
        ),
        (
            "put_zone",
            {"provider": "route53", "zone": "route53.test"},
            control.InvalidParams,
            "the sandbox's own",
        ),
        ("get_zone", {"provider": "route53", "zone": "a.test"}, control.NotFound, "has no zone a.test."),
        (
            "set_ptr",
            {"address": "8.8.8.8", "name": "a.test"},
            control.InvalidParams,
            "not of the sandbox's internet",
        ),
        ("set_location", {"network": "x", "country": "DE"}, control.InvalidParams, "no network"),
        ("set_location", {"network": "192.0.2.9", "country": "XX"}, control.InvalidParams, "not known here"),
        (
            "put_health_check",
            {"provider": "route53", "id": "h", "config": {}},
            control.InvalidParams,
            "not run here",
        ),
    ],
)
def test_wrong_calls_get_an_error_that_can_be_mended(
    call: Call, method: str, params: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(method, **params)


def test_names_and_places_of_the_rest_of_the_internet(call: Call, tmp_path: Path) -> None:
    call("set_ptr", address="198.51.100.7", name="edge-1.test")
    call("set_hosts", name="kms.aws.test", records=[{"type": "A", "values": ["192.0.2.30"]}])
    call("set_location", network="198.51.100.7", country="DE", latitude=50.1, longitude=8.7)
    saved = StateFile(tmp_path / "dns.json").load()["declared"]
    assert saved["pointers"]["198.51.100.7"] == "edge-1.test."
    assert saved["locations"]["198.51.100.7/32"]["country"] == "DE"
    call("delete_ptr", address="198.51.100.7")
    call("set_hosts", name="kms.aws.test", records=[])
    call("set_location", network="198.51.100.7", country=None)
    saved = StateFile(tmp_path / "dns.json").load()["declared"]
    assert "198.51.100.7" not in saved["pointers"]
    assert "kms.aws.test." not in saved["hosts"]
    assert "198.51.100.7/32" not in saved["locations"]
