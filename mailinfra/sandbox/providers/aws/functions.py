"""The functions (data sources) of AWS that the sandbox answers. Most need no daemon, so that a preview does
not either.
"""

import fnmatch
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from mailinfra.places import PLACES
from mailinfra.sandbox.aws.images import DEBIAN_OWNER, IMAGES, Image
from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.providers.base import Invoke, unique
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

_PARTITION = {"partition": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}


def _region(cloud: Any, arguments: Object) -> str:
    region = arguments.get("region") or cloud.config.get("region")
    if not region:
        raise ProviderError("no region: set `aws:region`, the provider's `region` or the function's")
    return str(region)


def get_caller_identity(cloud: Any, arguments: Object) -> Object:
    """Who calls: the sandbox's account, whose number AWS gives to nobody."""
    return {
        "accountId": ACCOUNT,
        "arn": f"arn:aws:iam::{ACCOUNT}:user/mailinfra-sandbox",
        "id": ACCOUNT,
        "userId": "AIDASANDBOXSANDBOXSBX",
    }


def get_partition(cloud: Any, arguments: Object) -> Object:
    """The commercial partition."""
    return {"id": _PARTITION["partition"], **_PARTITION}


def get_region(cloud: Any, arguments: Object) -> Object:
    """A region's names."""
    region = str(arguments.get("name") or _region(cloud, arguments))
    place = PLACES.get(region)
    if place is None:
        raise ProviderError(f"region: found {region}; allowed: {', '.join(_regions())}")
    return {
        "description": place.city,
        "endpoint": f"ec2.{region}.amazonaws.com",
        "id": region,
        "name": region,
        "region": region,
    }


def _regions() -> list[str]:
    return sorted(place.region for place in PLACES.values() if place.cloud.value == "aws")


def get_availability_zones(cloud: Any, arguments: Object) -> Object:
    """The availability zones that every account has in a region."""
    region = _region(cloud, arguments)
    place = PLACES.get(region)
    if place is None:
        raise ProviderError(f"region: found {region}; allowed: {', '.join(_regions())}")
    excluded = set(arguments.get("excludeNames", []))
    names = [place.availability_zone(letter) for letter in place.zone_letters]
    return {
        "id": region,
        "region": region,
        "names": [name for name in names if name not in excluded],
        "groupNames": [region],
        "zoneIds": [],
        **_given(arguments, "state", "allAvailabilityZones", "excludeNames", "excludeZoneIds", "filters"),
    }


def _given(arguments: Object, *names: str) -> Object:
    return {name: arguments[name] for name in names if name in arguments}


_ATTRIBUTES: Mapping[str, Callable[[Image], str]] = {
    "name": lambda image: image.name,
    "architecture": lambda image: image.architecture,
    "description": lambda image: image.description,
    "image-id": lambda image: image.id,
    "image-type": lambda image: "machine",
    "is-public": lambda image: "true",
    "owner-id": lambda image: DEBIAN_OWNER,
    "root-device-type": lambda image: "ebs",
    "state": lambda image: "available",
    "virtualization-type": lambda image: "hvm",
}


def _matches(image: Image, arguments: Object) -> bool:
    if arguments.get("owners") and DEBIAN_OWNER not in arguments["owners"]:
        return False
    if (pattern := arguments.get("nameRegex")) and not re.search(pattern, image.name):
        return False
    for index, wanted in enumerate(arguments.get("filters", [])):
        read = _ATTRIBUTES.get(wanted["name"])
        if read is None:
            raise ProviderError(
                f"filters[{index}].name: found {wanted['name']}; "
                f"allowed in the sandbox: {', '.join(sorted(_ATTRIBUTES))}"
            )
        if not any(fnmatch.fnmatchcase(read(image), value) for value in wanted["values"]):
            return False
    return True


def get_ami(cloud: Any, arguments: Object) -> Object:
    """One machine image of those that the sandbox has."""
    found = sorted((i for i in IMAGES if _matches(i, arguments)), key=lambda image: image.created)
    if not found:
        raise ProviderError(
            "getAmi: no image fits; the sandbox has: " + ", ".join(image.name for image in IMAGES)
        )
    if len(found) > 1 and not arguments.get("mostRecent"):
        raise ProviderError(
            f"getAmi: {len(found)} images fit ({', '.join(image.name for image in found)}); "
            "set mostRecent or narrow it"
        )
    image = found[-1]
    region = _region(cloud, arguments)
    return {
        "architecture": image.architecture,
        "arn": f"arn:aws:ec2:{region}::image/{image.id}",
        "blockDeviceMappings": [],
        "creationDate": image.created,
        "description": image.description,
        "enaSupport": True,
        "hypervisor": "xen",
        "id": image.id,
        "imageId": image.id,
        "imageLocation": f"{DEBIAN_OWNER}/{image.name}",
        "imageType": "machine",
        "name": image.name,
        "ownerId": DEBIAN_OWNER,
        "productCodes": [],
        "public": True,
        "region": region,
        "rootDeviceName": "/dev/xvda",
        "rootDeviceType": "ebs",
        "state": "available",
        "tags": {},
        "virtualizationType": "hvm",
        **_given(
            arguments, "executableUsers", "filters", "includeDeprecated", "mostRecent", "nameRegex", "owners"
        ),
    }


def get_public_key(cloud: Any, arguments: Object) -> Object:
    """The public half of an asymmetric KMS key."""
    region = _region(cloud, arguments)
    key = str(arguments.get("keyId", ""))
    if key.startswith("arn:"):
        region = key.split(":")[3]
    answer = cloud.client("kms", region).get_public_key(KeyId=key)
    encoded = b64encode(answer["PublicKey"]).decode()
    lines = "\n".join(encoded[start : start + 64] for start in range(0, len(encoded), 64))
    return {
        "arn": answer["KeyId"],
        "customerMasterKeySpec": answer.get("KeySpec") or answer.get("CustomerMasterKeySpec"),
        "encryptionAlgorithms": answer.get("EncryptionAlgorithms") or [],
        "id": answer["KeyId"],
        "keyId": key,
        "keyUsage": answer["KeyUsage"],
        "publicKey": encoded,
        "publicKeyPem": f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n",
        "region": region,
        "signingAlgorithms": answer.get("SigningAlgorithms") or [],
    }


def get_policy_document(cloud: Any, arguments: Object) -> Object:
    """A policy document from its parts; it needs no cloud.

    https://www.pulumi.com/registry/packages/aws/api-docs/iam/getpolicydocument/
    """
    unsupported = ("sourceJson", "overrideJson")
    for name in unsupported:
        if arguments.get(name):
            raise ProviderError(f"getPolicyDocument.{name}: deprecated; allowed: sourcePolicyDocuments")
    statements = [
        statement
        for text in arguments.get("sourcePolicyDocuments", [])
        for statement in json.loads(text).get("Statement", [])
    ]
    statements += [_statement(statement) for statement in arguments.get("statements", [])]
    for text in arguments.get("overridePolicyDocuments", []):
        for statement in json.loads(text).get("Statement", []):
            same = [s for s in statements if s.get("Sid") and s.get("Sid") == statement.get("Sid")]
            if same:
                statements[statements.index(same[0])] = statement
            else:
                statements.append(statement)
    document: Object = {"Version": arguments.get("version", "2012-10-17")}
    if identifier := arguments.get("policyId"):
        document["Id"] = identifier
    document["Statement"] = statements
    minified = json.dumps(document, separators=(",", ":"))
    return {
        "id": unique(minified, 10),
        "json": json.dumps(document, indent=2),
        "minifiedJson": minified,
        **_given(
            arguments, "overridePolicyDocuments", "policyId", "sourcePolicyDocuments", "statements", "version"
        ),
    }


def _one_or_many(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else sorted(values, reverse=True)


def _statement(given: Object) -> Object:
    statement: Object = {}
    if sid := given.get("sid"):
        statement["Sid"] = sid
    statement["Effect"] = given.get("effect", "Allow")
    for name, key in (
        ("actions", "Action"),
        ("notActions", "NotAction"),
        ("resources", "Resource"),
        ("notResources", "NotResource"),
    ):
        if given.get(name):
            statement[key] = _one_or_many(given[name])
    for name, key in (("principals", "Principal"), ("notPrincipals", "NotPrincipal")):
        if given.get(name):
            statement[key] = _principals(given[name])
    conditions: dict[str, dict[str, Any]] = {}
    for condition in given.get("conditions", []):
        conditions.setdefault(condition["test"], {})[condition["variable"]] = _one_or_many(
            condition["values"]
        )
    if conditions:
        statement["Condition"] = conditions
    return statement


def _principals(given: list[Object]) -> str | dict[str, Any]:
    if any(entry["type"] == "*" and entry["identifiers"] == ["*"] for entry in given):
        return "*"
    grouped: dict[str, list[str]] = {}
    for entry in given:
        grouped.setdefault(entry["type"], []).extend(entry["identifiers"])
    return {kind: _one_or_many(identifiers) for kind, identifiers in grouped.items()}


FUNCTIONS: Mapping[str, Invoke] = {
    "aws:ec2/getAmi:getAmi": get_ami,
    "aws:iam/getPolicyDocument:getPolicyDocument": get_policy_document,
    "aws:index/getAvailabilityZones:getAvailabilityZones": get_availability_zones,
    "aws:index/getCallerIdentity:getCallerIdentity": get_caller_identity,
    "aws:index/getPartition:getPartition": get_partition,
    "aws:index/getRegion:getRegion": get_region,
    "aws:kms/getPublicKey:getPublicKey": get_public_key,
}
