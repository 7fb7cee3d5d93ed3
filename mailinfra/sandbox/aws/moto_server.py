"""The process that plays AWS: moto's server with the sandbox's addresses, images and a KMS that signs digests.

`python -m mailinfra.sandbox.aws.moto_server FOLDER` serves on two free ports of the loopback interface,
notes them in a file, and prints a line.

It is a process of its own and outlives the daemon on purpose: moto keeps everything in memory, key material
of KMS above all, which cannot be recorded and played back. So a crash of the daemon loses nothing; a reboot
of the host loses all, as it does the machines, and the next `up` finds nothing there and makes it anew.
"""

import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mailinfra.sandbox.aws.authorise import Moto, Wsgi, authorised
from mailinfra.sandbox.aws.images import DEBIAN_OWNER, IMAGES, Image
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.paths import CONTROL_SOCKET, SandboxError
from mailinfra.sandbox.processes import Process, write_atomic
from mailinfra.sandbox.web_identity import CERTS_FILE

ACCOUNT = "000000000000"
"""The sandbox's account number, which AWS gives to nobody."""
PUBLIC_IPV4 = "198.51.100.0/25"
"""Where elastic addresses come from (RFC 5737)."""
IPV6 = "2001:db8:a000::/36"
"""Where VPCs' /56 blocks come from (RFC 3849)."""
PROCESS_FILE = "moto.json"
PORTS_FILE = "moto.ports"
"""JSON: the port of `operators` (plugins and command line, who may do all) and of `machines` (what their
roles allow).
"""

_digest: ContextVar[bool] = ContextVar("digest", default=False)


def prepare_environment(folder: Path) -> None:
    """Set what moto reads from its environment while it is imported."""
    images = folder / "images.json"
    images.write_text(json.dumps([_image(image) for image in IMAGES]))
    os.environ.update(
        MOTO_ACCOUNT_ID=ACCOUNT,
        MOTO_AMIS_PATH=str(images),
        MOTO_ENABLE_AMI_VALIDATION="true",
        MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true",
        MOTO_IAM_LOAD_MANAGED_POLICIES="true",
        # moto's own calls to itself must not look for real credentials.
        AWS_ACCESS_KEY_ID="sandbox",
        AWS_SECRET_ACCESS_KEY="sandbox",  # noqa: S106
    )


def _image(image: Image) -> dict[str, Any]:
    return {
        "ami_id": image.id,
        "name": image.name,
        "description": image.description,
        "owner_id": DEBIAN_OWNER,
        "public": True,
        "virtualization_type": "hvm",
        "architecture": image.architecture,
        "state": "available",
        "platform": None,
        "image_type": "machine",
        "image_location": f"{DEBIAN_OWNER}/{image.name}",
        "hypervisor": "xen",
        "root_device_name": "/dev/xvda",
        "root_device_type": "ebs",
        "sriov": "simple",
        "creation_date": image.created,
    }


def replace(owner: Any, name: str, function: Any) -> None:
    """Put a function of ours in the place of one of moto's; an AttributeError when moto has none of that name."""
    getattr(owner, name)
    setattr(owner, name, function)


def addresses_from_documentation_ranges() -> None:
    """Make moto's EC2 give out addresses of the sandbox's ranges instead of random ones."""
    import ipaddress

    from moto.ec2.models import ec2_backends, elastic_ip_addresses, vpcs

    lock = threading.Lock()
    pool = itertools.cycle(str(address) for address in ipaddress.ip_network(PUBLIC_IPV4).hosts())
    size = ipaddress.ip_network(PUBLIC_IPV4).num_addresses - 2
    blocks = ipaddress.ip_network(IPV6).subnets(new_prefix=56)

    def public_address() -> str:
        with lock:
            used = {
                address.public_ip
                for backend in ec2_backends[ACCOUNT].values()
                for address in backend.addresses
            }
            for address in itertools.islice(pool, size):
                if address not in used:
                    return address
        from moto.ec2.exceptions import EC2ClientError

        raise EC2ClientError(
            "AddressLimitExceeded", f"The sandbox has {size} elastic addresses; all are in use."
        )

    def ipv6_block() -> str:
        with lock:
            return str(next(blocks))

    for module, name, function in (
        (elastic_ip_addresses, "random_ip", public_address),
        (vpcs, "random_ipv6_cidr", ipv6_block),
    ):
        replace(module, name, function)


def kms_signs_digests() -> None:
    """Give moto's KMS `MessageType=DIGEST`, which it takes and ignores: it would hash the digest once more.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html
    """
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from moto.kms.exceptions import ValidationException
    from moto.kms.responses import KmsResponse
    from moto.kms.utils import ECDSAPrivateKey, RSAPrivateKey

    def wrap_rsa(original: Callable[..., Any]) -> Callable[..., Any]:
        def padding_and_hash(self: Any, signing_algorithm: str) -> Any:
            padding, algorithm = original(self, signing_algorithm)
            return padding, Prehashed(algorithm) if _digest.get() else algorithm

        return padding_and_hash

    def wrap_ecdsa(original: Callable[..., Any]) -> Callable[..., Any]:
        def hash_algorithm(self: Any, signing_algorithm: str) -> Any:
            algorithm = original(self, signing_algorithm)
            return Prehashed(algorithm) if _digest.get() else algorithm

        return hash_algorithm

    def wrap_action(original: Callable[..., Any]) -> Callable[..., Any]:
        def action(self: Any) -> Any:
            kind = self._get_param("MessageType") or "RAW"
            if kind not in {"RAW", "DIGEST"}:
                raise ValidationException(f"MessageType: found {kind}; allowed: RAW, DIGEST")
            token = _digest.set(kind == "DIGEST")
            try:
                return original(self)
            except ValueError as error:
                # `cryptography` refuses a digest of the wrong length so.
                raise ValidationException(f"Digest is invalid for the signing algorithm: {error}") from error
            finally:
                _digest.reset(token)

        return action

    for cls, name, wrap in (
        (RSAPrivateKey, "_RSAPrivateKey__padding_and_hash_algorithm", wrap_rsa),
        (ECDSAPrivateKey, "_ECDSAPrivateKey__hash_algorithm", wrap_ecdsa),
        (KmsResponse, "sign", wrap_action),
        (KmsResponse, "verify", wrap_action),
    ):
        replace(cls, name, wrap(getattr(cls, name)))


def record_sets_by_identity() -> None:
    """Make moto's Route 53 tell record sets apart by name, type and set identifier together.

    It deletes by the set identifier alone, whatever the name, creates what exists already, and refuses to create
    again what was deleted.
    https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
    """
    from moto.route53.exceptions import ResourceRecordAlreadyExists
    from moto.route53.models import ChangeList, FakeZone, Route53Backend

    original = Route53Backend.change_resource_record_sets
    lock = threading.Lock()

    def identity(record: dict[str, Any]) -> tuple[str, Any, Any]:
        return record["Name"].rstrip("."), record["Type"], record.get("SetIdentifier")

    def change(self: Any, zoneid: str, change_list: list[dict[str, Any]]) -> None:
        with lock:
            zone = self.get_hosted_zone(zoneid)
            known = {(found.name.rstrip("."), found.type, found.set_identifier) for found in zone.rrsets}
            for entry in change_list:
                key = identity(entry["ResourceRecordSet"])
                if entry["Action"] == "CREATE" and key in known:
                    raise ResourceRecordAlreadyExists(name=f"{key[0]}.", _type=key[1])
            deleted = {identity(c["ResourceRecordSet"]) for c in change_list if c["Action"] == "DELETE"}
            original(self, zoneid, change_list)
            zone.rrsets = [
                found
                for found in zone.rrsets
                if (found.name.rstrip("."), found.type, found.set_identifier) not in deleted
            ]

    def nothing(self: Any, _: Any) -> None:
        """`change` deletes."""

    def never(self: Any, _: Any) -> bool:
        """What was created once may be created again; `change` says what is there."""
        return False

    for owner, name, function in (
        (ChangeList, "__contains__", never),
        (Route53Backend, "change_resource_record_sets", change),
        (FakeZone, "delete_rrset_by_id", nothing),
        (FakeZone, "delete_rrset", nothing),
    ):
        replace(owner, name, function)


def terminated_instances_let_go() -> None:
    """Make moto's EC2 free a terminated instance's private addresses, and disassociate its elastic ones.

    Otherwise no instance can be replaced by one with the same address.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html
    """
    from moto.ec2.models.instances import Instance

    original = Instance.terminate

    def terminate(self: Any) -> Any:
        if self._state.name == "terminated":
            # What it had may be another's by now.
            return original(self)
        before = original(self)
        backend = self.ec2_backend
        for address in backend.addresses:
            owner = address.instance or (address.eni and address.eni.instance)
            if owner is self:
                backend.disassociate_address(address=address.public_ip)
        for card in self.nics.values():
            if card.id in backend.enis:
                card.delete()
        return before

    replace(Instance, "terminate", terminate)


def snapshots_hold_volumes(call: Callable[..., Any]) -> None:
    """Make moto's snapshots of volumes hold what the volumes held, and volumes made of them begin with it.

    `call` calls the daemon, which has the volumes; where it boots no machines there is nothing to hold. Images'
    snapshots stay what they are in moto: names.
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshot.html
    """
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models.elastic_block_store import EBSBackend

    create, delete = EBSBackend.create_snapshot, EBSBackend.delete_snapshot
    original: Callable[..., Any] = EBSBackend.create_volume

    def asked(method: str, **params: Any) -> None:
        try:
            if call("status")["machines_booted"]:
                call(method, **params)
        except SandboxError as error:
            raise EC2ClientError("InternalError", str(error)) from error

    def create_snapshot(
        self: Any, volume_id: str, description: str, owner_id: str | None = None, from_ami: str | None = None
    ) -> Any:
        made: Any = create(self, volume_id, description, owner_id, from_ami)
        if from_ami is None:
            made.kms_key_id = made.volume.kms_key_id
            # What the volume was then; it may grow.
            made.held_gib = made.volume.size
            try:
                asked(
                    "machines.snapshot_volume",
                    volume=volume_id,
                    snapshot=made.id,
                    size=made.held_gib << 30,
                )
            except BaseException:
                self.snapshots.pop(made.id, None)
                raise
        return made

    def delete_snapshot(self: Any, snapshot_id: str) -> Any:
        gone = delete(self, snapshot_id)
        if hasattr(gone, "held_gib"):
            asked("machines.delete_snapshot", snapshot=snapshot_id)
        return gone

    def create_volume(self: Any, size: int | None, zone_name: str, *rest: Any, **named: Any) -> Any:
        snapshot = self.snapshots.get(named.get("snapshot_id") or (rest[0] if rest else None))
        held: int | None = getattr(snapshot, "held_gib", None)
        if held is None:
            return original(self, size, zone_name, *rest, **named)
        size = held if size is None else size
        if size < held:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"The volume size {size} GiB is smaller than the snapshot's {held} GiB.",
            )
        made = original(self, size, zone_name, *rest, **named)
        if snapshot.encrypted and not named.get("kms_key_id"):
            made.kms_key_id = snapshot.kms_key_id
        try:
            asked("machines.restore_volume", volume=made.id, snapshot=snapshot.id, size=size << 30)
        except BaseException:
            self.volumes.pop(made.id, None)
            raise
        return made

    def copy_snapshot(self: Any, *_rest: Any, **_named: Any) -> Any:
        raise EC2ClientError("UnsupportedOperation", "The sandbox copies no snapshots between regions.")

    for name, function in (
        ("create_snapshot", create_snapshot),
        ("delete_snapshot", delete_snapshot),
        ("create_volume", create_volume),
        ("copy_snapshot", copy_snapshot),
    ):
        replace(EBSBackend, name, function)


def bucket_policies_elsewhere() -> None:
    """Keep moto from judging by bucket policies: it looks at no conditions, so "deny without TLS" denies all."""
    from moto.iam.access_control import PermissionResult
    from moto.s3.models import FakeBucket

    def get_permission(self: Any, action: str, resource: str) -> Any:
        return PermissionResult.NEUTRAL

    replace(FakeBucket, "get_permission", get_permission)


def service_names(application: Wsgi) -> Wsgi:
    """Let the sandbox's names stand for AWS's: `bucket.s3.eu-central-1.aws.test` for `….amazonaws.com`."""

    def translate(environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        host = environment.get("HTTP_HOST", "").partition(":")[0]
        if host.endswith(".aws.test"):
            environment["HTTP_HOST"] = host.removesuffix(".aws.test") + ".amazonaws.com"
        return application(environment, start)

    return translate


def main(folder: Path) -> int:
    """Serve until terminated."""
    prepare_environment(folder)
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        def log_request(self, *arguments: Any) -> None:
            """Nothing: request lines would fill the log."""

    addresses_from_documentation_ranges()
    kms_signs_digests()
    record_sets_by_identity()
    terminated_instances_let_go()
    bucket_policies_elsewhere()
    snapshots_hold_volumes(ControlClient(folder.parent / CONTROL_SOCKET).call)
    application = service_names(DomainDispatcherApplication(create_backend_app))

    def server(wsgi: Wsgi) -> Any:
        return make_server("127.0.0.1", 0, wsgi, threaded=True, request_handler=Handler)

    operators = server(application)
    # The sandbox's Google keeps its public keys in the folder beside this one.
    google = folder.parent / "gcp" / CERTS_FILE
    machines = server(authorised(application, Moto(ACCOUNT, google)))
    process = Process.of(os.getpid())
    if process is None:
        raise RuntimeError("this process is not in /proc")
    write_atomic(folder / PORTS_FILE, json.dumps({"operators": operators.port, "machines": machines.port}))
    process.save(folder / PROCESS_FILE)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Thread(target=machines.serve_forever, daemon=True).start()
    operators.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
