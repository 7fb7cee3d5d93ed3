"""Cloudflare's live types through the real engine."""

from collections.abc import Iterator

import pytest

from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import SandboxError
from tests.stack_helpers import Project, project

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PROGRAM = """
    import pulumi
    import pulumi_cloudflare as cloudflare

    changed = pulumi.Config().get_bool("changed") or False
    zone = cloudflare.Zone("zone", account={"id": "0" * 32}, name="example.test")


    def record(key, **fields):
        return cloudflare.DnsRecord(key, **{"zone_id": zone.id, "name": "example.test", "ttl": 300, **fields})


    record("mx", type="MX", priority=20 if changed else 10, content="mx1.example.test")
    record("spf", type="TXT", content='"v=spf1 ~all"' if changed else '"v=spf1 -all"', ttl=1)
    record("a", name="mx1.example.test", type="AAAA" if changed else "A",
           content="2001:db8::1" if changed else "198.51.100.7")
    record("ns", name="aws.mx.example.test", type="NS", content="ns1.route53.test")
    record("ds", name="aws.mx.example.test", type="DS",
           data={"key_tag": 1, "algorithm": 13, "digest_type": 2, "digest": "AB" * 32})
    record("tlsa", name="_25._tcp.mx1.example.test", type="TLSA",
           data={"usage": 2, "selector": 1, "matching_type": 1, "certificate": "cd" * 32})
    record("caa", type="CAA", data={"flags": 0, "tag": "issue", "value": "ca.test"})
    record("srv", name="_imaps._tcp.example.test", type="SRV",
           data={"priority": 0, "weight": 1, "port": 993, "target": "imap.example.test"})
    signed = cloudflare.ZoneDnssec("signed", zone_id=zone.id, status="disabled" if changed else "active")
    found = cloudflare.get_zone_output(zone_id=zone.id)
    pulumi.export("ds", signed.ds)
    pulumi.export("found", found.name)
    pulumi.export("names", zone.name_servers)
"""


@pytest.fixture(scope="module")
def case(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with project(engine, tmp_path_factory.mktemp("cloudflare")) as made:
        yield made


def _records(case: Project) -> dict[str, dict[str, object]]:
    listed = case.control.call("dns.list_records", provider="cloudflare", zone="example.test")
    return {record["type"]: record for record in listed}


def test_the_life_of_a_zone(case: Project) -> None:
    case.write(PROGRAM)
    outputs = case.up()
    served = case.control.call("dns.zone_ds", provider="cloudflare", zone="example.test")
    assert str(outputs["ds"]).endswith(served["ds"])
    assert served["signed"] is True
    assert outputs["found"] == "example.test"
    assert outputs["names"]
    first = _records(case)
    assert set(first) == {"MX", "TXT", "A", "NS", "DS", "TLSA", "CAA", "SRV"}
    assert first["MX"]["priority"] == 10

    assert case.preview() == {}
    case.refresh_finds_nothing()
    assert case.preview() == {}

    case.write(PROGRAM, case__changed="true")
    planned = case.preview()
    assert {name: planned[name] for name in ("mx", "spf", "signed")} == dict.fromkeys(
        ("mx", "spf", "signed"), "update"
    )
    assert planned["a"] in {"replace", "create-replacement"}
    assert set(planned) == {"mx", "spf", "signed", "a"}
    case.up()
    second = _records(case)
    assert second["MX"]["priority"] == 20
    assert second["MX"]["id"] == first["MX"]["id"], "changed in place"
    assert "AAAA" in second
    assert "A" not in second
    assert case.control.call("dns.zone_ds", provider="cloudflare", zone="example.test")["signed"] is False
    case.refresh_finds_nothing()

    case.control.call(
        "dns.delete_record", provider="cloudflare", zone="example.test", record={"id": first["MX"]["id"]}
    )
    case.stack.pulumi("refresh", "--yes", "--skip-preview")
    assert case.preview() == {"mx": "create"}

    case.destroy()
    zones = case.control.call("dns.status")["zones"]
    assert [zone for zone in zones if zone["provider"] == "cloudflare"] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("type='A', content='not an address'", "address"),
        ("type='MX', content='mx.example.test'", "priority"),
        ("type='SPF', content='x'", "type.*allowed"),
        ("type='A'", "neither of content and data"),
        ("type='A', content='198.51.100.7', proxied=True", "proxied"),
        ("type='A', content='198.51.100.7', ttl=5", "TTL 5"),
    ],
)
def test_a_record_that_cloudflare_refuses(case: Project, fields: str, message: str) -> None:
    ttl = "" if "ttl=" in fields else ", ttl=300"
    case.write(
        f"""
        import pulumi_cloudflare as cloudflare

        zone = cloudflare.Zone("zone", account={{"id": "0" * 32}}, name="example.test")
        cloudflare.DnsRecord("r", zone_id=zone.id, name="example.test", {fields}{ttl})
        """
    )
    with pytest.raises(SandboxError, match=message) as raised:
        case.up()
    assert "Traceback" not in str(raised.value)
    case.destroy()
