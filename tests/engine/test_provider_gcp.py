"""Google Cloud's live types through the real engine: what is made, kept, changed in place, replaced and removed."""

import base64
import hashlib
import signal
from collections.abc import Iterator

import pytest

from mailinfra.sandbox.cloud import start_cloud
from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.gcp.hsm_worker import verify
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.providers.gcp.api import GoogleApi
from tests.stack_helpers import Project, project

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CONFIG = {"gcp__project": "sandbox-project", "gcp__region": "europe-west3", "gcp__zone": "europe-west3-a"}
PROGRAM = """
    import pulumi
    import pulumi_gcp as gcp
    from pulumi import ResourceOptions

    config = pulumi.Config()
    changed = config.get_bool("changed") or False
    net = gcp.compute.Network("net", auto_create_subnetworks=False)
    sub = gcp.compute.Subnetwork(
        "sub", network=net.id, ip_cidr_range="203.0.113.64/27", stack_type="IPV4_IPV6", ipv6_access_type="EXTERNAL"
    )
    nodes = gcp.serviceaccount.Account("nodes", account_id="edge-nodes", display_name="changed" if changed else "edge")
    firewall = gcp.compute.Firewall(
        "smtp",
        network=net.name,
        allows=[{"protocol": "tcp", "ports": ["25"]}],
        source_ranges=["192.0.2.0/24" if changed else "0.0.0.0/0"],
        target_service_accounts=[nodes.email],
    )
    address = gcp.compute.Address("address")
    address6 = gcp.compute.Address("address6", ip_version="IPV6", ipv6_endpoint_type="VM", subnetwork=sub.id)
    ring = gcp.kms.KeyRing("ring", location="europe-west3")
    dkim = gcp.kms.CryptoKey(
        "dkim",
        key_ring=ring.id,
        purpose="ASYMMETRIC_SIGN",
        version_template={"algorithm": "RSA_SIGN_PKCS1_2048_SHA256", "protection_level": "HSM"},
    )
    data = gcp.kms.CryptoKey("data", key_ring=ring.id, rotation_period="8000000s" if changed else "7776000s")
    gcp.kms.CryptoKeyIAMMember(
        "signer", crypto_key_id=dkim.id, role="roles/cloudkms.signerVerifier", member=nodes.member
    )
    crypter = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    agents = gcp.kms.CryptoKeyIAMBinding(
        "agents",
        crypto_key_id=data.id,
        role=crypter,
        members=[
            gcp.projects.ServiceIdentity("compute", service="compute.googleapis.com").member,
            gcp.storage.get_project_service_account_output().member,
        ],
    )
    granted = ResourceOptions(depends_on=[agents])
    bucket = gcp.storage.Bucket(
        "control",
        location="europe-west3",
        uniform_bucket_level_access=True,
        versioning={"enabled": True},
        encryption={"default_kms_key_name": data.id},
        force_destroy=True,
        opts=granted,
    )
    gcp.storage.BucketObject("anchors", bucket=bucket.name, name="trust/anchors.pem", content=f"anchors {changed}")
    gcp.storage.BucketObject("asset", bucket=bucket.name, name="asset", source=pulumi.StringAsset("asset"))
    gcp.storage.BucketIAMMember(
        "enrol",
        bucket=bucket.name,
        role="roles/storage.objectUser",
        member=nodes.member,
        condition={
            "title": "own prefix",
            "expression": pulumi.Output.format(
                'resource.name.startsWith("projects/_/buckets/{}/objects/enrol/edge/")', bucket.name
            ),
        },
    )
    disk = gcp.compute.Disk(
        "mail", size=20 if changed else 10, disk_encryption_key={"kms_key_self_link": data.id}, opts=granted
    )
    image = gcp.compute.get_image(project="debian-cloud", family="debian-12")
    server = gcp.compute.Instance(
        "edge",
        machine_type="e2-medium" if changed else "e2-small",
        allow_stopping_for_update=True,
        boot_disk={"initialize_params": {"image": image.self_link}, "kms_key_self_link": data.id},
        attached_disks=[{"source": disk.id, "device_name": "mail"}],
        network_interfaces=[
            {
                "subnetwork": sub.id,
                "stack_type": "IPV4_IPV6",
                "access_configs": [{"nat_ip": address.address, "public_ptr_domain_name": "edge-1.example.test."}],
                "ipv6_access_configs": [
                    {
                        "network_tier": "PREMIUM",
                        "external_ipv6": address6.address,
                        "external_ipv6_prefix_length": "96",
                    }
                ],
            }
        ],
        metadata={"startup-script": "true"},
        service_account={"email": nodes.email, "scopes": ["cloud-platform"]},
        hostname=config.get("hostname"),
        opts=granted,
    )
    gcp.compute.Snapshot("copy", source_disk=disk.id, labels={"a": "2" if changed else "1"})
    hourly = gcp.compute.ResourcePolicy(
        "hourly",
        snapshot_schedule_policy={
            "schedule": {"hourly_schedule": {"hours_in_cycle": 2 if changed else 1, "start_time": "00:00"}},
            "retention_policy": {"max_retention_days": 7},
        },
    )
    gcp.compute.DiskResourcePolicyAttachment("hourly", disk=disk.name, name=hourly.name)
    check = gcp.compute.HealthCheck("check", tcp_health_check={"port": 25}, check_interval_sec=30, timeout_sec=5)
    zone = gcp.dns.ManagedZone("mx", dns_name="gcp.mx.example.test.", dnssec_config={"state": "on"})
    gcp.dns.RecordSet(
        "mx1",
        managed_zone=zone.name,
        name="mx1.gcp.mx.example.test.",
        type="A",
        ttl=60,
        routing_policy={
            "health_check": check.self_link,
            "geos": [
                {"location": "europe-west3", "health_checked_targets": {"external_endpoints": [address.address]}}
            ],
        },
    )
    gcp.dns.RecordSet(
        "text",
        managed_zone=zone.name,
        name=zone.dns_name,
        type="TXT",
        ttl=600 if changed else 300,
        rrdatas=['"hello"'],
    )
    version = gcp.kms.get_kms_crypto_key_version_output(crypto_key=dkim.id)
    pulumi.export("key", dkim.id)
    pulumi.export("pem", version.public_keys[0].pem)
    pulumi.export("bucket", bucket.name)
    pulumi.export("ds", gcp.dns.get_keys_output(managed_zone=zone.id).key_signing_keys[0].ds_record)
    pulumi.export("nat", server.network_interfaces[0].access_configs[0].nat_ip)
    pulumi.export("zones", gcp.compute.get_zones().names)
    pulumi.export("number", gcp.organizations.get_project().number)
"""
IN_PLACE = {"copy", "hourly", "nodes", "smtp", "data", "anchors", "mail", "edge", "text"}


@pytest.fixture(scope="module")
def case(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with project(engine, tmp_path_factory.mktemp("gcp")) as made:
        yield made


def _api(case: Project) -> GoogleApi:
    return GoogleApi(**case.control.call("gcp.endpoint"))


def test_the_life_of_a_stack(case: Project) -> None:
    case.write(PROGRAM, **CONFIG)
    outputs = case.up()
    assert outputs["number"] == "0"
    assert outputs["zones"] == ["europe-west3-a", "europe-west3-b"]
    assert str(outputs["nat"]).startswith("198.51.100.")
    served = case.control.call("dns.zone_ds", provider="clouddns", zone="gcp.mx.example.test")
    assert outputs["ds"] == served["ds"]
    assert served["signed"] is True

    digest = hashlib.sha256(b"mail").digest()
    body = {"digest": {"sha256": base64.b64encode(digest).decode()}}
    signed = _api(case).call("POST", f"/v1/{outputs['key']}/cryptoKeyVersions/1:asymmetricSign", body)
    verify(str(outputs["pem"]), "RSA_SIGN_PKCS1_2048_SHA256", digest, base64.b64decode(signed["signature"]))
    assert "PRIVATE" not in str(case.stack.state())

    assert case.preview() == {}
    case.refresh_finds_nothing()
    assert case.preview() == {}

    case.write(PROGRAM, **CONFIG, case__changed="true")
    assert case.preview() == dict.fromkeys(IN_PLACE, "update")
    case.up()
    path = f"/storage/v1/b/{outputs['bucket']}/o/trust%2Fanchors.pem"
    assert _api(case).raw("GET", path, query={"alt": "media"}) == b"anchors True"
    case.refresh_finds_nothing()
    assert case.preview() == {}

    case.write(PROGRAM, **CONFIG, case__changed="true", case__hostname="edge-1.example.test")
    planned = case.preview()
    assert set(planned) == {"edge"}
    assert planned["edge"] in {"replace", "create-replacement", "delete-replaced"}

    # A daemon that dies loses nothing, and what changed meanwhile behind the stack's back is found.
    before = case.control.call("gcp.endpoint")
    process = Process.load(case.paths.daemon_pid)
    assert process is not None
    process.send(signal.SIGKILL)
    assert process.wait(10)
    case.control = start_cloud(case.paths, False, lambda _what, _seconds: None)
    assert case.control.call("gcp.endpoint")["token"] == before["token"]
    case.write(PROGRAM, **CONFIG, case__changed="true")
    case.refresh_finds_nothing()
    _api(case).call("DELETE", path)
    with pytest.raises(SandboxError):
        case.refresh_finds_nothing()
    case.stack.pulumi("refresh", "--yes", "--skip-preview")
    assert case.preview() == {"anchors": "create"}

    case.destroy()
    assert _api(case).call("GET", "/storage/v1/b", query={"project": "sandbox-project"})["items"] == []
    zones = case.control.call("dns.status")["zones"]
    assert [zone for zone in zones if zone["provider"] == "clouddns"] == []
    # Names that the engine made are new ones, so what Google never forgets is in nobody's way.
    case.write(PROGRAM, **CONFIG)
    case.up()
    case.destroy()


def test_a_key_ring_of_a_fixed_name_cannot_be_made_twice(case: Project) -> None:
    program = """
        import pulumi_gcp as gcp

        gcp.kms.KeyRing("ring", name="fixed", location="europe-west3")
    """
    case.write(program, **CONFIG)
    case.up()
    case.destroy()
    with pytest.raises(SandboxError, match=r"409.*already exists"):
        case.up()
    case.destroy()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("compute.Network('n', auto_create_subnetworks=True)", "autoCreateSubnetworks: .* set it to false"),
        ("compute.Address('a', address_type='INTERNAL')", "subnetwork: .* needs one"),
        ("kms.CryptoKey('k', key_ring='projects/p/locations/l/keyRings/none')", "not found"),
        ("storage.BucketObject('o', bucket='b')", "found neither; allowed: one of content and source"),
        ("dns.ManagedZone('z', dns_name='no-dot.test')", "ends with a dot"),
    ],
)
def test_what_the_cloud_refuses_is_one_line(case: Project, statement: str, message: str) -> None:
    case.write(f"from pulumi_gcp import compute, dns, kms, storage\n\n{statement}\n", **CONFIG)
    with pytest.raises(SandboxError, match=message) as raised:
        case.up()
    assert "Traceback" not in str(raised.value)
    case.destroy()
