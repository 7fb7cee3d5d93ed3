"""Databases: TLS required of clients, with a floor."""

from collections.abc import Iterator
from dataclasses import dataclass

from mailinfra_policy import expect
from mailinfra_policy.config import Tls
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Floors, Link, Must, Table, floor, guarded, judged_by, said
from mailinfra_policy.values import UNKNOWN, Value, show

_MODES = ("require", "verify-ca", "verify-full")
_PROVIDER = "aws:dms/dataProvider:DataProvider"
_ENDPOINT = "aws:dms/endpoint:Endpoint"
_SSL_ENGINES = (
    "aurora", "aurora-postgresql", "azuredb", "docdb", "db2", "mariadb", "mongodb", "mysql", "oracle", "postgres",
    "redshift", "sqlserver", "sybase",
)  # fmt: skip


def _sql(resource: Resource) -> bool:
    engine = resource.get("engineName")
    return engine is UNKNOWN or engine in _SSL_ENGINES


TABLE: Table = {
    "aws:rds/proxy:Proxy": (Must("requireTls", (True,), default=False),),
    "gcp:sql/databaseInstance:DatabaseInstance": (
        Must(
            "settings.ipConfiguration.sslMode",
            ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"),
            default="ALLOW_UNENCRYPTED_AND_ENCRYPTED",
            wrong=("ALLOW_UNENCRYPTED_AND_ENCRYPTED",),
        ),
    ),
    "gcp:alloydb/instance:Instance": (
        Must(
            "clientConnectionConfig.sslConfig.sslMode",
            ("ENCRYPTED_ONLY",),
            wrong=("ALLOW_UNENCRYPTED_AND_ENCRYPTED",),
        ),
    ),
    _ENDPOINT: (
        Must("sslMode", _MODES, when=_sql, wrong=("none",)),
        Must("sslSecurityProtocol", ("ssl-encryption",), under="redisSettings", wrong=("plaintext",)),
    ),
    _PROVIDER: tuple(
        Must("sslMode", _MODES, under=f"settings.{name}", wrong=("none",))
        for name in (
            "docDbSettings",
            "mariaDbSettings",
            "microsoftSqlServerSettings",
            "mongoDbSettings",
            "mysqlSettings",
            "oracleSettings",
            "postgresqlSettings",
        )
    ),
    "cloudflare:index/hyperdriveConfig:HyperdriveConfig": (
        Must("mtls.sslmode", _MODES, default="require", wrong=("disable", "prefer")),
    ),
}
_table = judged_by(TABLE)


@dataclass(frozen=True)
class Parameter:
    """A parameter that a group has to have. `default` is the engine's own value."""

    name: str
    values: tuple[str, ...] | Floors
    default: str = ""

    def allowed(self, tls: Tls) -> tuple[str, ...]:
        """Its right values."""
        least = floor(tls, Link.SERVICES)
        return self.values.allowed(least) if isinstance(self.values, Floors) else self.values


_MYSQL_VERSIONS = Floors(only13=("TLSv1.3",), from12=("TLSv1.2,TLSv1.3", "TLSv1.2, TLSv1.3", "TLSv1.2"))
_POSTGRES = (
    Parameter("rds.force_ssl", ("1",)),
    Parameter("ssl_min_protocol_version", Floors(only13=("TLSv1.3",), from12=("TLSv1.2",))),
)
_MYSQL = (
    Parameter("require_secure_transport", ("1", "ON")),
    Parameter("tls_version", _MYSQL_VERSIONS),
)
_SQL_SERVER = (
    Parameter("rds.force_ssl", ("1",)),
    Parameter("rds.tls10", ("disabled",)),
    Parameter("rds.tls11", ("disabled",)),
    Parameter("rds.tls12", Floors(only13=("disabled",), from12=("default", "enabled")), default="default"),
)
_DOCUMENTS = (Parameter("tls", Floors(only13=("tls1.3+",), from12=("tls1.2+", "fips-140-3"))),)
_REDSHIFT = (Parameter("require_ssl", ("true",)),)
FAMILIES = (
    ("aurora-postgresql", _POSTGRES),
    ("postgres", _POSTGRES),
    ("aurora-mysql", _MYSQL),
    ("mysql", _MYSQL),
    ("mariadb", _MYSQL),
    ("sqlserver-", _SQL_SERVER),
    ("docdb", _DOCUMENTS),
    ("redshift-", _REDSHIFT),
)
"""What parameter groups have to say, by how their family begins."""

_GROUPS = (
    "aws:rds/parameterGroup:ParameterGroup",
    "aws:rds/clusterParameterGroup:ClusterParameterGroup",
    "aws:docdb/clusterParameterGroup:ClusterParameterGroup",
    "aws:redshift/parameterGroup:ParameterGroup",
)
_SERVERS = {
    "aws:rds/instance:Instance": "parameterGroupName",
    "aws:rds/cluster:Cluster": "dbClusterParameterGroupName",
    "aws:docdb/cluster:Cluster": "dbClusterParameterGroupName",
    "aws:redshift/cluster:Cluster": "clusterParameterGroupName",
}
_WORKGROUP = "aws:redshiftserverless/workgroup:Workgroup"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table; a server has a parameter group of this stack, and a group requires TLS."""
    tls = context.config.tls
    yield from _table(resource, context)
    if named := _SERVERS.get(resource.type):
        allowed = "a parameter group of this stack, which requires TLS"
        if not context.stack.referred(resource, named, *_GROUPS):
            value = resource.get(named)
            if value is UNKNOWN:
                yield expect.unknown(resource, named, allowed)
            else:
                yield Finding(resource, named, show(value), allowed)
    elif resource.type in _GROUPS:
        yield from _group(resource, tls)
    elif resource.type == _WORKGROUP:
        yield from _parameters(
            resource, "configParameters", ("parameterKey", "parameterValue"), _REDSHIFT, tls
        )


def _group(resource: Resource, tls: Tls) -> Iterator[Finding]:
    family = resource.get("family")
    known = " or ".join(f"{name}…" for name, _ in FAMILIES)
    if family is UNKNOWN:
        yield expect.unknown(resource, "family", known)
        return
    for beginning, parameters in FAMILIES:
        if str(family).startswith(beginning):
            yield from _parameters(resource, "parameters", ("name", "value"), parameters, tls)
            return
    yield Finding(
        resource, "family", show(family), f"{known}: of others it is not known how they require TLS"
    )


def _parameters(
    resource: Resource, path: str, keys: tuple[str, str], wanted: tuple[Parameter, ...], tls: Tls
) -> Iterator[Finding]:
    name, value = keys
    items = [
        (at, resource.get(f"{at}.{name}"), resource.get(f"{at}.{value}"))
        for at, _ in resource.each(f"{path}[*]")
    ]
    if resource.get(path) is UNKNOWN or any(given is UNKNOWN for _, given, _ in items):
        yield expect.unknown(resource, path, " and ".join(parameter.name for parameter in wanted))
        return
    for parameter in wanted:
        allowed = parameter.allowed(tls)
        found: list[tuple[str, Value]] = [(at, given) for at, key, given in items if key == parameter.name]
        if not found and parameter.default not in allowed:
            yield Finding(resource, path, f"no {parameter.name}", f"{parameter.name} {said(allowed)}")
        for at, given in found:
            if given is UNKNOWN:
                yield expect.unknown(resource, f"{at}.{value}", said(allowed))
            elif str(given) not in allowed:
                yield Finding(resource, f"{at}.{value}", show(given), said(allowed))


_GROUP_GUARDS = (
    Guard("parameters", wrong=([],)),
    Guard("parameters[*].value", wrong=("0", "TLSv1")),
    Guard("parameters[*].name", wrong=("other",)),
    Guard("family", wrong=("oracle-ee-19",)),
)

RULE = Rule(
    id="tls-database",
    title="Databases require TLS of their clients",
    severity=Severity.HIGH,
    why="A database that offers TLS without requiring it serves plain text to each client that does not ask.",
    mend="Require TLS in the instance's settings or in a parameter group of its own (rds.force_ssl, "
    "require_secure_transport, tls, require_ssl), with a floor of 1.2.",
    controls=TRANSPORT,
    covers={
        **guarded(TABLE),
        **{token: (Guard(path, wrong=("default.postgres16",)),) for token, path in _SERVERS.items()},
        **dict.fromkeys(_GROUPS, _GROUP_GUARDS),
        _WORKGROUP: (
            Guard("configParameters", wrong=([],)),
            Guard("configParameters[*].parameterValue", wrong=("false",)),
        ),
    },
    judge=judge,
)
