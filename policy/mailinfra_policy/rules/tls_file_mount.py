"""File systems as they are mounted, and file transfer: TLS or the protocol's own encryption."""

from collections.abc import Iterator

from mailinfra_policy.expect import one_of
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Floors, Link, Must, Table, guarded, judged_by

_TASK = "aws:ecs/taskDefinition:TaskDefinition"
_NETAPP = "gcp:netapp/volume:Volume"
_SERVER = "aws:transfer/server:Server"
_EFS = "volumes[*].efsVolumeConfiguration"

TABLE: Table = {
    _TASK: (Must("transitEncryption", ("ENABLED",), under=_EFS, default="DISABLED", wrong=("DISABLED",)),),
    "aws:datasync/efsLocation:EfsLocation": (Must("inTransitEncryption", ("TLS1_2",), wrong=("NONE",)),),
    "aws:datasync/locationObjectStorage:LocationObjectStorage": (
        Must("serverProtocol", ("HTTPS",), default="HTTPS", wrong=("HTTP",)),
    ),
    _SERVER: (
        Must("protocols[*]", ("SFTP", "FTPS", "AS2"), wrong=("FTP",)),
        Must(
            "securityPolicyName",
            Floors(
                from12=(
                    "TransferSecurityPolicy-2020-06",
                    "TransferSecurityPolicy-2022-03",
                    "TransferSecurityPolicy-2023-05",
                    "TransferSecurityPolicy-2024-01",
                    "TransferSecurityPolicy-2025-03",
                    "TransferSecurityPolicy-FIPS-2020-06",
                    "TransferSecurityPolicy-FIPS-2023-05",
                    "TransferSecurityPolicy-FIPS-2024-01",
                    "TransferSecurityPolicy-FIPS-2024-05",
                    "TransferSecurityPolicy-FIPS-2025-03",
                )
            ),
            Link.SERVICES,
            wrong=("TransferSecurityPolicy-2018-11",),
        ),
    ),
}
_table = judged_by(TABLE)


def _nfs(resource: Resource) -> bool:
    return resource.type != _NETAPP or resource.get("protocols") != ["SMB"]


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table; a NetApp volume needs Kerberos for NFS and encrypted SMB; Filestore needs NFS 4.1, which can do it."""
    yield from _table(resource, context)
    if resource.type == _NETAPP:
        yield from one_of(resource, "protocols[*]", ("NFSV4", "SMB"))
        if _nfs(resource):
            yield from one_of(resource, "kerberosEnabled", (True,), default=False)


RULE = Rule(
    id="tls-file-mount",
    title="File systems are mounted and files transferred with encryption",
    severity=Severity.HIGH,
    why="Mailboxes on a file system that is mounted without encryption cross the network as they are.",
    mend="Mount with transit encryption (EFS over TLS, NFS 4.1 with Kerberos); use SFTP or FTPS for transfer.",
    controls=TRANSPORT,
    covers={
        **guarded(TABLE),
        _NETAPP: (
            Guard("protocols[*]", wrong=("NFSV3", "nfsv4"), needed=False),
            Guard("kerberosEnabled", wrong=(False,), when=lambda resource, value: _nfs(resource)),
        ),
    },
    judge=judge,
)
