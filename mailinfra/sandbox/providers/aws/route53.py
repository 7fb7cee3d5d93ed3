"""Route 53: zones and records in moto, which checks them, and then on the sandbox's name server, which
answers with them.

DNSSEC keys are the name server's; moto has no call for them, so what a key-signing key was given (its KMS
key, its status) is kept in a tag of the zone.
"""

import uuid
from typing import Any

from mailinfra.sandbox.providers.aws.adapter import (
    AwsAdapter,
    known,
    removed_tags,
    tag_list,
    tag_outputs,
)
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object, without_none

SIGNING_REGION = "us-east-1"
"""Where Route 53 takes the KMS keys of key-signing keys from."""
KSK_TAG = "sandbox:ksk:"
PROVIDER = "route53"


def _tags(api: Any, kind: str, identifier: str) -> list[dict[str, str]]:
    answer = api.list_tags_for_resource(ResourceType=kind, ResourceId=identifier)
    found: list[dict[str, str]] = answer["ResourceTagSet"]["Tags"]
    return found


def _change_tags(api: Any, kind: str, call: Call) -> None:
    if not call.changed("tags"):
        return
    arguments: Object = {}
    if tags := tag_list(call.inputs.get("tags")):
        arguments["AddTags"] = tags
    if removed := removed_tags(call):
        arguments["RemoveTagKeys"] = removed
    if arguments:
        api.change_tags_for_resource(ResourceType=kind, ResourceId=call.id, **arguments)


class Zone(AwsAdapter):
    """Public zones; private ones (`vpcs`) are refused.

    https://www.pulumi.com/registry/packages/aws/api-docs/route53/zone/
    """

    service = "route53"
    rules = Rules(replaces=frozenset({"name", "delegationSetId"}))

    def check(self, call: Call) -> list[Failure]:
        if call.inputs.get("vpcs"):
            return [Failure("vpcs", "found a value; allowed in the sandbox: public zones only")]
        return []

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_hosted_zone(
            Name=call.inputs["name"],
            CallerReference=str(uuid.uuid4()),
            HostedZoneConfig={
                "Comment": call.inputs.get("comment", "Managed by Pulumi"),
                "PrivateZone": False,
            },
        )
        return str(answer["HostedZone"]["Id"]).rpartition("/")[2]

    def set_up(self, api: Any, call: Call) -> None:
        call.cloud.control.call("dns.put_zone", provider=PROVIDER, zone=call.inputs["name"])
        _change_tags(api, "hostedzone", call)

    def change(self, api: Any, call: Call) -> None:
        self.set_up(api, call)
        if call.changed("comment"):
            comment = call.inputs.get("comment", "Managed by Pulumi")
            api.update_hosted_zone_comment(Id=call.id, Comment=comment)

    def find(self, api: Any, call: Call) -> Object | None:
        zone = api.get_hosted_zone(Id=call.id)["HostedZone"]
        served = call.cloud.control.call("dns.get_zone", provider=PROVIDER, zone=zone["Name"])
        servers = sorted(name.rstrip(".") for name in served["name_servers"])
        return {
            "arn": f"arn:aws:route53:::hostedzone/{call.id}",
            "comment": zone.get("Config", {}).get("Comment"),
            "name": zone["Name"].rstrip("."),
            "nameServers": servers,
            "primaryNameServer": servers[0] if servers else None,
            "zoneId": call.id,
            **tag_outputs(_tags(api, "hostedzone", call.id)),
        }

    def remove(self, api: Any, call: Call) -> None:
        name = api.get_hosted_zone(Id=call.id)["HostedZone"]["Name"]
        if call.state.get("forceDestroy"):
            for record in records_of(api, call.id):
                if (record["Type"], record["Name"]) not in {("NS", name), ("SOA", name)}:
                    _change_record(api, call.id, "DELETE", record)
        api.delete_hosted_zone(Id=call.id)
        call.cloud.control.call("dns.delete_zone", provider=PROVIDER, zone=name)


def records_of(api: Any, zone: str) -> list[Object]:
    """All record sets of a zone."""
    pages = api.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
    return [record for page in pages for record in page["ResourceRecordSets"]]


def _change_record(api: Any, zone: str, action: str, record: Object) -> None:
    from botocore.exceptions import ClientError

    batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
    try:
        api.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    except ClientError as error:
        # The client asks again when an answer is lost; then what it asked for may be there already, and be its own.
        retried = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
        if not (retried and action == "CREATE" and "already exists" in str(error)):
            raise


_POLICIES = (
    "weightedRoutingPolicies",
    "geolocationRoutingPolicies",
    "latencyRoutingPolicies",
    "failoverRoutingPolicies",
    "multivalueAnswerRoutingPolicy",
)
_UNSUPPORTED = ("cidrRoutingPolicy", "geoproximityRoutingPolicy")
_WEIGHTS = (0, 255)


class Record(AwsAdapter):
    """A record set of any type and routing policy but CIDR and geoproximity.

    https://www.pulumi.com/registry/packages/aws/api-docs/route53/record/
    """

    service = "route53"
    rules = Rules(
        replaces=frozenset({"zoneId", "name", "type", "setIdentifier"}), unordered=frozenset({"records"})
    )

    def check(self, call: Call) -> list[Failure]:
        inputs = call.inputs
        failures = [
            Failure(name, "found a value; the sandbox does not support it")
            for name in _UNSUPPORTED
            if inputs.get(name)
        ]
        policies = [name for name in _POLICIES if inputs.get(name)]
        if len(policies) > 1:
            failures.append(Failure(policies[1], f"found beside {policies[0]}; allowed: one routing policy"))
        if policies and inputs.get("setIdentifier") is None:
            failures.append(Failure("setIdentifier", f"missing; allowed: a name, as there is {policies[0]}"))
        alias = bool(inputs.get("aliases"))
        if alias and (inputs.get("records") or inputs.get("ttl") is not None):
            failures.append(Failure("aliases", "found beside records or ttl; allowed: an alias has neither"))
        if not alias and (inputs.get("records") is None or inputs.get("ttl") is None):
            missing = "records" if inputs.get("records") is None else "ttl"
            failures.append(Failure(missing, "missing; allowed: records and ttl, or aliases"))
        for index, policy in enumerate(inputs.get("weightedRoutingPolicies") or []):
            weight = policy.get("weight") if isinstance(policy, dict) else None
            if known(weight) and isinstance(weight, int) and not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
                failures.append(
                    Failure(f"weightedRoutingPolicies[{index}].weight", f"found {weight}; allowed: 0 to 255")
                )
        return failures

    def _set(self, api: Any, inputs: Object) -> Object:
        """The record set as Route 53's API has it."""
        record: Object = {"Name": self._fqdn(api, inputs), "Type": inputs["type"]}
        if identifier := inputs.get("setIdentifier"):
            record["SetIdentifier"] = identifier
        if check := inputs.get("healthCheckId"):
            record["HealthCheckId"] = check
        if aliases := inputs.get("aliases"):
            record["AliasTarget"] = {
                "HostedZoneId": aliases[0]["zoneId"],
                "DNSName": aliases[0]["name"],
                "EvaluateTargetHealth": bool(aliases[0].get("evaluateTargetHealth")),
            }
        else:
            record["TTL"] = inputs["ttl"]
            record["ResourceRecords"] = [
                {"Value": _quoted(value) if inputs["type"] in {"TXT", "SPF"} else value}
                for value in inputs["records"]
            ]
        return {**record, **_policy(inputs)}

    @staticmethod
    def _fqdn(api: Any, inputs: Object) -> str:
        zone = str(api.get_hosted_zone(Id=inputs["zoneId"])["HostedZone"]["Name"]).rstrip(".")
        name = str(inputs["name"]).rstrip(".").lower()
        # As the real provider: a name that does not end in the zone's is relative to it.
        if name == zone or name.endswith(f".{zone}"):
            return f"{name}."
        return f"{name}.{zone}." if name else f"{zone}."

    @staticmethod
    def _zone_name(api: Any, zone: str) -> str:
        return str(api.get_hosted_zone(Id=zone)["HostedZone"]["Name"])

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        record = self._set(api, inputs)
        zone = inputs["zoneId"]
        with call.cloud.locks.of(f"zone {zone}"):
            _change_record(api, zone, "UPSERT" if inputs.get("allowOverwrite") else "CREATE", record)
            try:
                self._serve(api, call, record)
            except Exception:
                _change_record(api, zone, "DELETE", record)
                raise
        parts = [zone, str(inputs["name"]).rstrip(".").lower(), inputs["type"]]
        return "_".join([*parts, *([inputs["setIdentifier"]] if inputs.get("setIdentifier") else [])])

    def _serve(self, api: Any, call: Call, record: Object) -> None:
        zone = self._zone_name(api, call.inputs["zoneId"])
        call.cloud.control.call("dns.put_record", provider=PROVIDER, zone=zone, record=record)

    def change(self, api: Any, call: Call) -> None:
        record = self._set(api, call.inputs)
        with call.cloud.locks.of(f"zone {call.inputs['zoneId']}"):
            _change_record(api, call.inputs["zoneId"], "UPSERT", record)
            self._serve(api, call, record)

    def _current(self, api: Any, source: Object) -> Object | None:
        name = self._fqdn(api, source)
        for record in records_of(api, source["zoneId"]):
            same = (record["Name"], record["Type"], record.get("SetIdentifier"))
            if same == (name, source["type"], source.get("setIdentifier")):
                return record
        return None

    def find(self, api: Any, call: Call) -> Object | None:
        source = call.inputs or call.state or _record_from_id(call.id)
        record = self._current(api, source)
        if record is None:
            return None
        found: Object = {
            "fqdn": record["Name"].rstrip("."),
            "name": source["name"],
            "type": record["Type"],
            "zoneId": source["zoneId"],
            "setIdentifier": record.get("SetIdentifier"),
            "healthCheckId": record.get("HealthCheckId") or None,
        }
        if target := record.get("AliasTarget"):
            found["aliases"] = [
                {
                    "zoneId": target["HostedZoneId"],
                    "name": target["DNSName"].rstrip("."),
                    "evaluateTargetHealth": target["EvaluateTargetHealth"],
                }
            ]
            given = source.get("aliases") or [{"name": ""}]
            # A final dot makes no other name.
            if str(given[0]["name"]).rstrip(".") == found["aliases"][0]["name"]:
                found["aliases"][0]["name"] = given[0]["name"]
        else:
            found["ttl"] = record.get("TTL")
            values = [entry["Value"] for entry in record.get("ResourceRecords", [])]
            wanted = source.get("records") or []
            if record["Type"] in {"TXT", "SPF"}:
                spelled = {_quoted(value): value for value in wanted}
                values = [spelled.get(value, value) for value in values]
            found["records"] = wanted if sorted(wanted) == sorted(values) else values
        return {**found, **_policy_outputs(record)}

    def remove(self, api: Any, call: Call) -> None:
        record = self._current(api, call.state)
        if record is None:
            return
        with call.cloud.locks.of(f"zone {call.state['zoneId']}"):
            _change_record(api, call.state["zoneId"], "DELETE", record)
            zone = self._zone_name(api, call.state["zoneId"])
            call.cloud.control.call("dns.delete_record", provider=PROVIDER, zone=zone, record=record)


def _record_from_id(identifier: str) -> Object:
    """Inputs that name a record, from an import id `ZONE_name_TYPE[_set]` (names may hold underscores)."""
    zone, _, rest = identifier.partition("_")
    words = rest.split("_")
    types = {
        "A",
        "AAAA",
        "CAA",
        "CNAME",
        "DS",
        "MX",
        "NAPTR",
        "NS",
        "PTR",
        "SOA",
        "SPF",
        "SRV",
        "SSHFP",
        "TLSA",
        "TXT",
    }
    for index in range(len(words) - 1, 0, -1):
        if words[index] in types:
            found: Object = {"zoneId": zone, "name": "_".join(words[:index]), "type": words[index]}
            if words[index + 1 :]:
                found["setIdentifier"] = "_".join(words[index + 1 :])
            return found
    raise ProviderError(
        f"{identifier}: found no record id; allowed: ZONEID_name_TYPE or ZONEID_name_TYPE_set"
    )


def _quoted(value: str) -> str:
    """A TXT value in quotes, as the API wants it; the real provider adds those around, chunks keep their own."""
    return value if value.startswith('"') and value.endswith('"') else f'"{value}"'


def _policy(inputs: Object) -> Object:
    """The routing policy as the API has it."""
    if weighted := inputs.get("weightedRoutingPolicies"):
        return {"Weight": weighted[0]["weight"]}
    if latency := inputs.get("latencyRoutingPolicies"):
        return {"Region": latency[0]["region"]}
    if failover := inputs.get("failoverRoutingPolicies"):
        return {"Failover": failover[0]["type"]}
    if places := inputs.get("geolocationRoutingPolicies"):
        names = {"continent": "ContinentCode", "country": "CountryCode", "subdivision": "SubdivisionCode"}
        return {
            "GeoLocation": {names[key]: value for key, value in places[0].items() if key in names and value}
        }
    if inputs.get("multivalueAnswerRoutingPolicy"):
        return {"MultiValueAnswer": True}
    return {}


def _policy_outputs(record: Object) -> Object:
    found: Object = {}
    if "Weight" in record:
        found["weightedRoutingPolicies"] = [{"weight": record["Weight"]}]
    if "Region" in record:
        found["latencyRoutingPolicies"] = [{"region": record["Region"]}]
    if "Failover" in record:
        found["failoverRoutingPolicies"] = [{"type": record["Failover"]}]
    if place := record.get("GeoLocation"):
        found["geolocationRoutingPolicies"] = [
            without_none(
                {
                    "continent": place.get("ContinentCode"),
                    "country": place.get("CountryCode"),
                    "subdivision": place.get("SubdivisionCode"),
                }
            )
        ]
    if record.get("MultiValueAnswer"):
        found["multivalueAnswerRoutingPolicy"] = True
    return found


_CHECK_INPUTS = {
    "type": "Type",
    "ipAddress": "IPAddress",
    "fqdn": "FullyQualifiedDomainName",
    "port": "Port",
    "resourcePath": "ResourcePath",
    "searchString": "SearchString",
    "requestInterval": "RequestInterval",
    "failureThreshold": "FailureThreshold",
    "measureLatency": "MeasureLatency",
    "invertHealthcheck": "Inverted",
    "disabled": "Disabled",
    "childHealthThreshold": "HealthThreshold",
    "childHealthchecks": "ChildHealthChecks",
    "enableSni": "EnableSNI",
    "regions": "Regions",
}
_FIXED = ("type", "requestInterval", "measureLatency")


class HealthCheck(AwsAdapter):
    """Endpoint checks probe for real; calculated ones combine them.

    https://www.pulumi.com/registry/packages/aws/api-docs/route53/healthcheck/
    """

    service = "route53"
    rules = Rules(
        replaces=frozenset({*_FIXED, "referenceName", "triggers"}),
        unordered=frozenset({"regions", "childHealthchecks"}),
    )
    computed = frozenset({"enableSni"})

    def check(self, call: Call) -> list[Failure]:
        interval = call.inputs.get("requestInterval")
        if known(interval) and interval not in {10, 30}:
            return [Failure("requestInterval", f"found {interval}; allowed: 10 or 30 seconds")]
        return []

    @staticmethod
    def _config(inputs: Object) -> Object:
        return {
            argument: inputs[name] for name, argument in _CHECK_INPUTS.items() if inputs.get(name) is not None
        }

    def make(self, api: Any, call: Call) -> str:
        reference = f"{call.inputs.get('referenceName', '')}{uuid.uuid4()}"[:64]
        answer = api.create_health_check(
            CallerReference=reference, HealthCheckConfig=self._config(call.inputs)
        )
        return str(answer["HealthCheck"]["Id"])

    def set_up(self, api: Any, call: Call) -> None:
        call.cloud.control.call(
            "dns.put_health_check", provider=PROVIDER, id=call.id, config=self._config(call.inputs)
        )
        _change_tags(api, "healthcheck", call)

    def change(self, api: Any, call: Call) -> None:
        wanted = self._config(call.inputs)
        for name in _FIXED:
            wanted.pop(_CHECK_INPUTS[name], None)
        api.update_health_check(HealthCheckId=call.id, **wanted)
        self.set_up(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        config = api.get_health_check(HealthCheckId=call.id)["HealthCheck"]["HealthCheckConfig"]
        given = call.inputs or call.state
        found = {
            name: config.get(argument)
            for name, argument in _CHECK_INPUTS.items()
            if not given or given.get(name) is not None
        }
        return {
            "arn": f"arn:aws:route53:::healthcheck/{call.id}",
            **{name: value for name, value in found.items() if value not in (None, [], "")},
            **tag_outputs(_tags(api, "healthcheck", call.id)),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_health_check(HealthCheckId=call.id)
        call.cloud.control.call("dns.delete_health_check", provider=PROVIDER, id=call.id)


class KeySigningKey(AwsAdapter):
    """The zone's key-signing key. Its KMS key is checked as Route 53 does; the key itself is the name server's.

    https://www.pulumi.com/registry/packages/aws/api-docs/route53/keysigningkey/
    """

    service = "route53"
    rules = Rules(replaces=frozenset({"hostedZoneId", "keyManagementServiceArn", "name"}))

    def check(self, call: Call) -> list[Failure]:
        status = call.inputs.get("status")
        if known(status) and status not in {"ACTIVE", "INACTIVE"}:
            return [Failure("status", f"found {status!r}; allowed: ACTIVE or INACTIVE")]
        return []

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        zone, name, key = (
            str(inputs["hostedZoneId"]),
            str(inputs["name"]),
            str(inputs["keyManagementServiceArn"]),
        )
        parts = key.split(":")
        if len(parts) != 6 or parts[3] != SIGNING_REGION:
            raise ProviderError(
                f"CreateKeySigningKey: InvalidArgument: keyManagementServiceArn: found {key}; "
                f"allowed: a key in {SIGNING_REGION}"
            )
        found = call.cloud.client("kms", SIGNING_REGION).describe_key(KeyId=key)["KeyMetadata"]
        if (found["KeySpec"], found["KeyUsage"]) != ("ECC_NIST_P256", "SIGN_VERIFY"):
            raise ProviderError(
                f"CreateKeySigningKey: InvalidKMSArn: found {found['KeySpec']} {found['KeyUsage']}; "
                "allowed: ECC_NIST_P256 SIGN_VERIFY"
            )
        if f"{KSK_TAG}{name}" in key_signing_keys(api, zone):
            raise ProviderError(f"CreateKeySigningKey: KeySigningKeyAlreadyExists: {name} in zone {zone}")
        self._put(api, call, zone, name)
        return f"{zone},{name}"

    @staticmethod
    def _put(api: Any, call: Call, zone: str, name: str) -> None:
        value = f"{call.inputs.get('status', 'ACTIVE')} {call.inputs['keyManagementServiceArn']}"
        api.change_tags_for_resource(
            ResourceType="hostedzone", ResourceId=zone, AddTags=[{"Key": f"{KSK_TAG}{name}", "Value": value}]
        )

    def change(self, api: Any, call: Call) -> None:
        zone, _, name = call.id.partition(",")
        self._put(api, call, zone, name)

    def find(self, api: Any, call: Call) -> Object | None:
        zone, _, name = call.id.partition(",")
        value = key_signing_keys(api, zone).get(f"{KSK_TAG}{name}")
        if value is None:
            return None
        status, _, key = value.partition(" ")
        zone_name = api.get_hosted_zone(Id=zone)["HostedZone"]["Name"]
        signer = call.cloud.control.call("dns.zone_ds", provider=PROVIDER, zone=zone_name)
        return {
            "hostedZoneId": zone,
            "name": name,
            "keyManagementServiceArn": key,
            "status": status,
            "digestAlgorithmMnemonic": "SHA-256",
            "digestAlgorithmType": signer["digest_type"],
            "digestValue": signer["digest"],
            "dnskeyRecord": signer["dnskey"],
            "dsRecord": signer["ds"],
            "flag": signer["flags"],
            "keyTag": signer["key_tag"],
            "publicKey": signer["public_key"],
            "signingAlgorithmMnemonic": "ECDSAP256SHA256",
            "signingAlgorithmType": signer["algorithm"],
        }

    def remove(self, api: Any, call: Call) -> None:
        zone, _, name = call.id.partition(",")
        zone_name = api.get_hosted_zone(Id=zone)["HostedZone"]["Name"]
        signed = call.cloud.control.call("dns.zone_ds", provider=PROVIDER, zone=zone_name)["signed"]
        if signed and len(key_signing_keys(api, zone)) == 1:
            raise ProviderError(
                f"DeactivateKeySigningKey: KeySigningKeyInUse: {name} is the only key of a signed zone"
            )
        api.change_tags_for_resource(
            ResourceType="hostedzone", ResourceId=zone, RemoveTagKeys=[f"{KSK_TAG}{name}"]
        )


def key_signing_keys(api: Any, zone: str) -> dict[str, str]:
    """The tags that stand for a zone's key-signing keys."""
    tags = _tags(api, "hostedzone", zone)
    return {tag["Key"]: tag["Value"] for tag in tags if tag["Key"].startswith(KSK_TAG)}


class HostedZoneDnsSec(AwsAdapter):
    """Whether a zone is signed.

    https://www.pulumi.com/registry/packages/aws/api-docs/route53/hostedzonednssec/
    """

    service = "route53"
    rules = Rules(replaces=frozenset({"hostedZoneId"}))

    def make(self, api: Any, call: Call) -> str:
        self._switch(api, call, str(call.inputs["hostedZoneId"]))
        return str(call.inputs["hostedZoneId"])

    def change(self, api: Any, call: Call) -> None:
        self._switch(api, call, call.id)

    @staticmethod
    def _switch(api: Any, call: Call, zone: str) -> None:
        on = call.inputs.get("signingStatus", "SIGNING") == "SIGNING"
        keys = key_signing_keys(api, zone)
        if on and not any(value.startswith("ACTIVE ") for value in keys.values()):
            raise ProviderError(
                f"EnableHostedZoneDNSSEC: KeySigningKeyWithActiveStatusNotFound: zone {zone} has no active key"
            )
        name = api.get_hosted_zone(Id=zone)["HostedZone"]["Name"]
        call.cloud.control.call("dns.set_dnssec", provider=PROVIDER, zone=name, on=on)

    def find(self, api: Any, call: Call) -> Object | None:
        name = api.get_hosted_zone(Id=call.id)["HostedZone"]["Name"]
        signed = call.cloud.control.call("dns.zone_ds", provider=PROVIDER, zone=name)["signed"]
        return {"hostedZoneId": call.id, "signingStatus": "SIGNING" if signed else "NOT_SIGNING"}

    def remove(self, api: Any, call: Call) -> None:
        name = api.get_hosted_zone(Id=call.id)["HostedZone"]["Name"]
        call.cloud.control.call("dns.set_dnssec", provider=PROVIDER, zone=name, on=False)
