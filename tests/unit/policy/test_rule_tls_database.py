"""Databases require TLS of their clients."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_database import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

POSTGRES = {"rds.force_ssl": "1", "ssl_min_protocol_version": "TLSv1.2"}
MYSQL = {"require_secure_transport": "ON", "tls_version": "TLSv1.2,TLSv1.3"}


def parameters(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def group(kind: str, name: str, family: str, values: dict[str, Any]) -> Resource:
    return resource(f"aws:{kind}", name, {"name": name, "family": family, "parameters": parameters(values)})


PG = group("rds/parameterGroup:ParameterGroup", "pg", "postgres16", POSTGRES)
AURORA = group("rds/clusterParameterGroup:ClusterParameterGroup", "aurora", "aurora-mysql8.0", MYSQL)
DOCUMENTS = group(
    "docdb/clusterParameterGroup:ClusterParameterGroup", "documents", "docdb5.0", {"tls": "tls1.2+"}
)
SHIFT = group("redshift/parameterGroup:ParameterGroup", "shift", "redshift-1.0", {"require_ssl": "true"})
SQL_SERVER = group(
    "rds/parameterGroup:ParameterGroup",
    "mssql",
    "sqlserver-se-15.0",
    {"rds.force_ssl": "1", "rds.tls10": "disabled", "rds.tls11": "disabled"},
)
INSTANCE = resource("aws:rds/instance:Instance", "db", {"parameterGroupName": "pg"})
CLOUD_SQL = resource(
    "gcp:sql/databaseInstance:DatabaseInstance",
    "sql",
    {"settings": {"ipConfiguration": {"sslMode": "ENCRYPTED_ONLY"}}},
)
ALLOY = resource(
    "gcp:alloydb/instance:Instance",
    "alloy",
    {"clientConnectionConfig": {"sslConfig": {"sslMode": "ENCRYPTED_ONLY"}}},
)
PROXY = resource("aws:rds/proxy:Proxy", "proxy", {"requireTls": True})
COPY = resource("aws:dms/endpoint:Endpoint", "copy", {"engineName": "postgres", "sslMode": "require"})
REDIS = resource(
    "aws:dms/endpoint:Endpoint",
    "redis",
    {"engineName": "redis", "redisSettings": {"sslSecurityProtocol": "ssl-encryption"}},
)
DATA = resource(
    "aws:dms/dataProvider:DataProvider",
    "data",
    {
        "settings": {
            name: {"sslMode": "verify-full"}
            for name in (
                "docDbSettings", "mariaDbSettings", "microsoftSqlServerSettings", "mongoDbSettings", "mysqlSettings",
                "oracleSettings", "postgresqlSettings",
            )
        }
    },
)  # fmt: skip
HYPERDRIVE = resource(
    "cloudflare:index/hyperdriveConfig:HyperdriveConfig", "hyper", {"mtls": {"sslmode": "verify-full"}}
)
WORKGROUP = resource(
    "aws:redshiftserverless/workgroup:Workgroup",
    "work",
    {"configParameters": [{"parameterKey": "require_ssl", "parameterValue": "true"}]},
)
GOOD = (
    [PG, INSTANCE],
    [AURORA, resource("aws:rds/cluster:Cluster", "cluster", {"dbClusterParameterGroupName": "aurora"})],
    [DOCUMENTS, resource("aws:docdb/cluster:Cluster", "docs", {"dbClusterParameterGroupName": "documents"})],
    [
        SHIFT,
        resource("aws:redshift/cluster:Cluster", "red", {"clusterParameterGroupName": "shift"}),
        WORKGROUP,
    ],
    [SQL_SERVER],
    [CLOUD_SQL, ALLOY, PROXY, COPY, REDIS, DATA, HYPERDRIVE],
)


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (PG, {"parameters": parameters({"rds.force_ssl": "1"})}, "parameters"),
        (PG, {"parameters": parameters({**POSTGRES, "rds.force_ssl": "0"})}, "parameters[0].value"),
        (
            PG,
            {"parameters": parameters({**POSTGRES, "ssl_min_protocol_version": "TLSv1.1"})},
            "parameters[1].value",
        ),
        (PG, {"family": "oracle-ee-19"}, "family"),
        (
            AURORA,
            {"parameters": parameters({**MYSQL, "tls_version": "TLSv1,TLSv1.2"})},
            "parameters[1].value",
        ),
        (DOCUMENTS, {"parameters": parameters({"tls": "enabled"})}, "parameters[0].value"),
        (SHIFT, {"parameters": None}, "parameters"),
        (
            SQL_SERVER,
            {"parameters": parameters({"rds.force_ssl": "1", "rds.tls10": "disabled"})},
            "parameters",
        ),
        (WORKGROUP, {"configParameters": None}, "configParameters"),
        (INSTANCE, {"parameterGroupName": "default.postgres16"}, "parameterGroupName"),
        (CLOUD_SQL, {"settings": {"ipConfiguration": {}}}, "settings.ipConfiguration.sslMode"),
        (ALLOY, {"clientConnectionConfig": None}, "clientConnectionConfig.sslConfig.sslMode"),
        (PROXY, {"requireTls": None}, "requireTls"),
        (COPY, {"sslMode": None}, "sslMode"),
        (REDIS, {"redisSettings": {"port": 6379}}, "redisSettings.sslSecurityProtocol"),
        (HYPERDRIVE, {"mtls": {"sslmode": "prefer"}}, "mtls.sslmode"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_the_floor_is_configurable() -> None:
    strict = settings(tls={"services": "1.3"})
    assert places(RULE, [PG], strict) == [("pg", "parameters[1].value")]
    assert places(RULE, [SQL_SERVER], strict) == [("mssql", "parameters")]


def test_endpoints_of_other_kinds_have_no_such_mode() -> None:
    assert found(RULE, [changed(COPY, engineName="s3", sslMode=None)]) == []


@pytest.mark.parametrize(
    "item",
    [
        changed(PG, parameters=UNKNOWN),
        changed(PG, family=UNKNOWN),
        changed(INSTANCE, parameterGroupName=UNKNOWN),
        changed(CLOUD_SQL, settings=UNKNOWN),
    ],
)
def test_unknown_is_found(item: Resource) -> None:
    (only,) = found(RULE, [item])
    assert only.finding.unknown
