"""The functions (data sources) of Google Cloud that the sandbox answers."""

import re
from typing import TYPE_CHECKING

from mailinfra.places import PLACES, place
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp.api import segment
from mailinfra.sandbox.providers.guard import PROJECT_NUMBER
from mailinfra.sandbox.providers.values import Object

if TYPE_CHECKING:
    from mailinfra.sandbox.providers.gcp.cloud import GcpCloud

IMAGES = {("debian-cloud", "debian-12"): "debian-12-bookworm-v20260714"}
"""The images of the sandbox by project and family: every server boots Debian 12."""


def _setting(cloud: "GcpCloud", arguments: Object, name: str) -> str:
    value = arguments.get(name) or cloud.config.get(name)
    if not value:
        raise ProviderError(f"{name}: required field is not set; give it or set gcp:{name}")
    text: str = value
    return text.rsplit("/", 1)[-1]


def get_key_ring(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.kms.getKMSKeyRing`."""
    project = _setting(cloud, arguments, "project")
    name = f"projects/{project}/locations/{arguments['location']}/keyRings/{arguments['name']}"
    cloud.api.call("GET", f"/v1/{name}")
    return {"id": name, "name": arguments["name"], "location": arguments["location"], "project": project}


def get_crypto_key(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.kms.getKMSCryptoKey`."""
    ring = arguments["keyRing"]
    ring = ring[ring.find("projects/") :]
    key = cloud.api.call("GET", f"/v1/{ring}/cryptoKeys/{arguments['name']}")
    primary = key.get("primary")
    return {
        "id": key["name"],
        "name": arguments["name"],
        "keyRing": ring,
        "purpose": key["purpose"],
        "rotationPeriod": key.get("rotationPeriod", ""),
        "destroyScheduledDuration": key["destroyScheduledDuration"],
        "versionTemplates": [key["versionTemplate"]],
        "primaries": [{"name": primary["name"], "state": primary["state"]}] if primary else [],
        "effectiveLabels": key["labels"],
        "pulumiLabels": key["labels"],
        "labels": key["labels"],
        "importOnly": False,
        "skipInitialVersionCreation": False,
        "cryptoKeyBackend": "",
        "keyAccessJustificationsPolicies": [],
        "deletionPolicy": "DELETE",
    }


def _version(cloud: "GcpCloud", version: Object) -> Object:
    name = version["name"]
    shown = {
        "id": f"//cloudkms.googleapis.com/v1/{name}",
        "name": name,
        "version": int(name.rsplit("/", 1)[1]),
        "algorithm": version["algorithm"],
        "protectionLevel": version["protectionLevel"],
        "state": version["state"],
        "publicKeys": [],
    }
    if "_SIGN_" in version["algorithm"] and version["state"] == "ENABLED":
        public = cloud.api.call("GET", f"/v1/{name}/publicKey")
        shown["publicKeys"] = [{"algorithm": public["algorithm"], "pem": public["pem"]}]
    return shown


def _key_name(reference: str) -> str:
    return reference[reference.find("projects/") :]


def get_crypto_key_version(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.kms.getKMSCryptoKeyVersion`."""
    key = _key_name(arguments["cryptoKey"])
    version = cloud.api.call("GET", f"/v1/{key}/cryptoKeyVersions/{arguments.get('version', 1)}")
    return _version(cloud, version) | {"cryptoKey": arguments["cryptoKey"]}


def get_latest_version(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.kms.getCryptoKeyLatestVersion`."""
    key = _key_name(arguments["cryptoKey"])
    query = {"filter": arguments["filter"]} if arguments.get("filter") else None
    found = cloud.api.call("GET", f"/v1/{key}/cryptoKeyVersions", query=query)["cryptoKeyVersions"]
    if not found:
        raise ProviderError(f"No CryptoKeyVersions found in crypto key {key}")
    return _version(cloud, found[-1]) | {
        "cryptoKey": arguments["cryptoKey"],
        "filter": arguments.get("filter"),
    }


def get_project_service_account(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.storage.getProjectServiceAccount`."""
    project = _setting(cloud, arguments, "project")
    email = cloud.api.call("GET", f"/storage/v1/projects/{project}/serviceAccount")["email_address"]
    return {"id": email, "emailAddress": email, "member": f"serviceAccount:{email}", "project": project}


def get_project(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.organizations.getProject`."""
    project = arguments.get("projectId") or _setting(cloud, {}, "project")
    return {
        "id": f"projects/{project}",
        "projectId": project,
        "name": project,
        "number": PROJECT_NUMBER,
        "labels": {},
        "effectiveLabels": {},
        "pulumiLabels": {},
        "autoCreateNetwork": False,
        "billingAccount": "",
        "folderId": "",
        "orgId": "",
        "deletionPolicy": "PREVENT",
        "tags": {},
    }


def get_client_config(cloud: "GcpCloud", _arguments: Object) -> Object:
    """`gcp.organizations.getClientConfig`."""
    config = cloud.config
    project, region, zone = (str(config.get(name, "")) for name in ("project", "region", "zone"))
    return {
        "id": f'projects/"{project}"/regions/"{region}"/zones/"{zone}"',
        "project": project,
        "region": region,
        "zone": zone,
        "accessToken": cloud.endpoint["token"],
        "defaultLabels": config.get("defaultLabels", {}),
    }


def get_zones(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.compute.getZones`."""
    project, region = _setting(cloud, arguments, "project"), _setting(cloud, arguments, "region")
    try:
        where = place(region)
    except KeyError:
        known = sorted(name for name in PLACES if re.fullmatch(r"[a-z]+-[a-z]+\d+", name))
        raise ProviderError(f"region: found {region!r}; allowed: {', '.join(known)}") from None
    names = [where.availability_zone(letter) for letter in where.zone_letters]
    return {
        "id": f"projects/{project}/regions/{region}",
        "names": names,
        "project": project,
        "region": region,
        "status": arguments.get("status"),
    }


def get_image(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.compute.getImage`: by family or name, among the sandbox's images."""
    project = _setting(cloud, arguments, "project")
    for (owner, family), name in IMAGES.items():
        if (
            owner == project
            and family == arguments.get("family", family)
            and name == arguments.get("name", name)
        ):
            full = f"projects/{owner}/global/images/{name}"
            return {
                "id": full,
                "name": name,
                "family": family,
                "project": owner,
                "selfLink": f"https://www.googleapis.com/compute/v1/{full}",
                "status": "READY",
                "diskSizeGb": 10,
                "description": "Debian, Debian GNU/Linux, 12 (bookworm), amd64",
            }
    known = ", ".join(f"{owner}/{family}" for owner, family in IMAGES)
    wanted = f"{project}/{arguments.get('family') or arguments.get('name')}"
    raise ProviderError(f"image: found {wanted}; the sandbox has {known}")


def _managed_zone(cloud: "GcpCloud", reference: str, arguments: Object) -> tuple[str, Object]:
    name = reference
    if "projects/" not in name:
        name = f"projects/{_setting(cloud, arguments, 'project')}/managedZones/{name}"
    return name, cloud.api.call("GET", f"/sandbox/managedZone/{segment(name)}")


def get_managed_zone(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.dns.getManagedZone`."""
    name, zone = _managed_zone(cloud, arguments["name"], arguments)
    return {
        "id": name,
        "name": zone["inputs"]["name"],
        "dnsName": zone["inputs"]["dnsName"],
        "description": zone["inputs"].get("description", "Managed by Pulumi"),
        "managedZoneId": zone["outputs"]["managedZoneId"],
        "nameServers": zone["outputs"]["nameServers"],
        "visibility": zone["inputs"].get("visibility", "public"),
        "project": name.split("/")[1],
    }


def get_keys(cloud: "GcpCloud", arguments: Object) -> Object:
    """`gcp.dns.getKeys`: the zone's key as PowerDNS signs with it, and its DS record. It is key and zone key in one."""
    name, zone = _managed_zone(cloud, arguments["managedZone"], arguments)
    key = cloud.control.call("dns.zone_ds", provider="clouddns", zone=zone["inputs"]["dnsName"])
    signing = []
    if key["signed"]:
        signing = [
            {
                "id": "0",
                "algorithm": "ecdsap256sha256",
                "creationTime": zone["outputs"]["creationTime"],
                "description": "",
                "digests": [{"digest": key["digest"], "type": "sha256"}],
                "dsRecord": key["ds"],
                "isActive": True,
                "keyLength": 256,
                "keyTag": key["key_tag"],
                "publicKey": key["public_key"],
            }
        ]
    return {
        "id": f"{name}/dnsKeys",
        "managedZone": arguments["managedZone"],
        "project": name.split("/")[1],
        "keySigningKeys": signing,
        "zoneSigningKeys": [],
    }


FUNCTIONS = {
    "gcp:kms/getKMSKeyRing:getKMSKeyRing": get_key_ring,
    "gcp:kms/getKMSCryptoKey:getKMSCryptoKey": get_crypto_key,
    "gcp:kms/getKMSCryptoKeyVersion:getKMSCryptoKeyVersion": get_crypto_key_version,
    "gcp:kms/getCryptoKeyLatestVersion:getCryptoKeyLatestVersion": get_latest_version,
    "gcp:storage/getProjectServiceAccount:getProjectServiceAccount": get_project_service_account,
    "gcp:organizations/getProject:getProject": get_project,
    "gcp:organizations/getClientConfig:getClientConfig": get_client_config,
    "gcp:compute/getZones:getZones": get_zones,
    "gcp:compute/getImage:getImage": get_image,
    "gcp:dns/getManagedZone:getManagedZone": get_managed_zone,
    "gcp:dns/getKeys:getKeys": get_keys,
}
