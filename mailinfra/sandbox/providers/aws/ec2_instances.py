"""Instances and their volumes."""

import base64
import binascii
import gzip
from typing import Any

from mailinfra.sandbox.providers.aws.adapter import arn, known, region_of, tag_outputs
from mailinfra.sandbox.providers.aws.ec2 import Ec2Adapter, given
from mailinfra.sandbox.providers.aws.ec2_machines import ipv6_addresses
from mailinfra.sandbox.providers.base import Call, unique
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Change, Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

USER_DATA_LIMIT = 16_384
"""Bytes of user-data, before base64 (EC2's limit)."""
_ROOT_REPLACES = ("rootBlockDevice.encrypted", "rootBlockDevice.kmsKeyId", "rootBlockDevice.deviceName")
_METADATA = {
    "httpEndpoint": "HttpEndpoint",
    "httpTokens": "HttpTokens",
    "httpPutResponseHopLimit": "HttpPutResponseHopLimit",
    "httpProtocolIpv6": "HttpProtocolIpv6",
    "instanceMetadataTags": "InstanceMetadataTags",
}
_UNSUPPORTED = (
    "ebsBlockDevices",
    "ephemeralBlockDevices",
    "launchTemplate",
    "networkInterfaces",
    "securityGroups",
)


def user_data(inputs: Object) -> bytes:
    """The bytes of an instance's user-data."""
    if inputs.get("userData"):
        return str(inputs["userData"]).encode()
    return base64.b64decode(inputs.get("userDataBase64") or "")


class Instance(Ec2Adapter):
    """A server. In the sandbox it is a machine that boots from the very user-data.

    A change of user-data stops and starts it, unless `userDataReplaceOnChange` is set, as the real provider does.
    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/instance/
    """

    kind = "instance"
    rules = Rules(
        replaces=frozenset(
            {
                "ami",
                "availabilityZone",
                "cpuOptions",
                "hibernation",
                "hostId",
                "instanceMarketOptions",
                "keyName",
                "placementGroup",
                "privateIp",
                "subnetId",
                "tenancy",
            }
        ),
        keeps=frozenset(
            {"userData", "userDataBase64", "userDataReplaceOnChange", "rootBlockDevice", "forceDestroy"}
        ),
        unordered=frozenset({"vpcSecurityGroupIds", "ipv6Addresses", "secondaryPrivateIps"}),
    )
    computed = frozenset(
        {
            "associatePublicIpAddress",
            "availabilityZone",
            "disableApiStop",
            "disableApiTermination",
            "ebsOptimized",
            "ipv6AddressCount",
            "ipv6Addresses",
            "maintenanceOptions",
            "metadataOptions",
            "monitoring",
            "privateIp",
            "rootBlockDevice",
            "subnetId",
            "tenancy",
            "userDataBase64",
            "vpcSecurityGroupIds",
        }
    )

    def check(self, call: Call) -> list[Failure]:
        inputs = call.inputs
        failures = [
            Failure(name, "found a value; the sandbox does not support it")
            for name in _UNSUPPORTED
            if inputs.get(name)
        ]
        if inputs.get("userData") is not None and inputs.get("userDataBase64") is not None:
            failures.append(Failure("userDataBase64", "found beside userData; allowed: one of them"))
        for name in ("ami", "instanceType"):
            if inputs.get(name) is None:
                failures.append(Failure(name, "missing; allowed: a value, or a launchTemplate"))
        failures += _check_user_data(inputs)
        return failures

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        names = {change.path for change in changes if change.path in _ROOT_REPLACES}
        if call.inputs.get("userDataReplaceOnChange"):
            names |= {"userData", "userDataBase64"}
        return frozenset(names)

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        arguments: Object = {
            "MinCount": 1,
            "MaxCount": 1,
            **given(
                call,
                ImageId="ami",
                InstanceType="instanceType",
                SubnetId="subnetId",
                PrivateIpAddress="privateIp",
                SecurityGroupIds="vpcSecurityGroupIds",
                KeyName="keyName",
                EbsOptimized="ebsOptimized",
                DisableApiTermination="disableApiTermination",
                DisableApiStop="disableApiStop",
            ),
            **self.tag_specifications(call),
        }
        if data := user_data(inputs):
            # botocore encodes it; moto keeps what arrives.
            arguments["UserData"] = data
        if profile := inputs.get("iamInstanceProfile"):
            arguments["IamInstanceProfile"] = {"Name": profile}
        if zone := inputs.get("availabilityZone"):
            arguments["Placement"] = {"AvailabilityZone": zone}
        if options := _metadata_options(inputs):
            arguments["MetadataOptions"] = options
        if inputs.get("monitoring"):
            arguments["Monitoring"] = {"Enabled": True}
        if root := inputs.get("rootBlockDevice"):
            arguments["BlockDeviceMappings"] = [_root_mapping(root)]
        return str(api.run_instances(**arguments)["Instances"][0]["InstanceId"])

    def set_up(self, api: Any, call: Call) -> None:
        instance = _instance(api, call.id)
        self._assign_ipv6(api, call, instance)
        if call.inputs.get("sourceDestCheck") is False:
            api.modify_instance_attribute(InstanceId=call.id, SourceDestCheck={"Value": False})
        call.cloud.machines.create(region_of(call), call.id)

    @staticmethod
    def _assign_ipv6(api: Any, call: Call, instance: Object) -> None:
        cards = instance.get("NetworkInterfaces", [])
        if not cards:
            return
        have = ipv6_addresses(instance)
        card = cards[0]["NetworkInterfaceId"]
        wanted = call.inputs.get("ipv6Addresses")
        if wanted is not None:
            if gone := [address for address in have if address not in wanted]:
                api.unassign_ipv6_addresses(NetworkInterfaceId=card, Ipv6Addresses=gone)
            if new := [address for address in wanted if address not in have]:
                api.assign_ipv6_addresses(NetworkInterfaceId=card, Ipv6Addresses=new)
        elif (count := call.inputs.get("ipv6AddressCount", 0) - len(have)) > 0:
            api.assign_ipv6_addresses(NetworkInterfaceId=card, Ipv6AddressCount=count)

    def change(self, api: Any, call: Call) -> None:
        machines, region = call.cloud.machines, region_of(call)
        if not machines.exists(call.id):
            # An earlier `up` made the instance and then failed.
            self.set_up(api, call)
        if call.changed("vpcSecurityGroupIds") and call.inputs.get("vpcSecurityGroupIds"):
            api.modify_instance_attribute(InstanceId=call.id, Groups=call.inputs["vpcSecurityGroupIds"])
        if call.changed("metadataOptions") and (options := _metadata_options(call.inputs)):
            api.modify_instance_metadata_options(InstanceId=call.id, **options)
        if call.changed("iamInstanceProfile"):
            self._change_profile(api, call)
        if call.changed("disableApiTermination"):
            wanted = bool(call.inputs.get("disableApiTermination"))
            api.modify_instance_attribute(InstanceId=call.id, DisableApiTermination={"Value": wanted})
        if call.changed("ipv6Addresses", "ipv6AddressCount"):
            self._assign_ipv6(api, call, _instance(api, call.id))
        self.change_tags(api, call)
        if call.changed("userData", "userDataBase64", "instanceType"):
            self._restart(api, call)
        machines.sync(region)

    @staticmethod
    def _restart(api: Any, call: Call) -> None:
        """Stop, change what can only be changed then, start: as the real provider does."""
        api.stop_instances(InstanceIds=[call.id])
        if call.changed("userData", "userDataBase64"):
            api.modify_instance_attribute(
                InstanceId=call.id,
                Attribute="userData",
                Value=base64.b64encode(user_data(call.inputs)).decode(),
            )
        if call.changed("instanceType"):
            api.modify_instance_attribute(
                InstanceId=call.id, InstanceType={"Value": call.inputs["instanceType"]}
            )
        api.start_instances(InstanceIds=[call.id])
        call.cloud.machines.restart(region_of(call), call.id)

    @staticmethod
    def _change_profile(api: Any, call: Call) -> None:
        filters = [{"Name": "instance-id", "Values": [call.id]}]
        found = api.describe_iam_instance_profile_associations(Filters=filters)[
            "IamInstanceProfileAssociations"
        ]
        current = next((entry["AssociationId"] for entry in found), None)
        wanted = call.inputs.get("iamInstanceProfile")
        if wanted and current:
            api.replace_iam_instance_profile_association(
                AssociationId=current, IamInstanceProfile={"Name": wanted}
            )
        elif wanted:
            api.associate_iam_instance_profile(InstanceId=call.id, IamInstanceProfile={"Name": wanted})
        elif current:
            api.disassociate_iam_instance_profile(AssociationId=current)

    def find(self, api: Any, call: Call) -> Object | None:
        instance = _instance(api, call.id)
        if instance["State"]["Name"] in {"terminated", "shutting-down"}:
            return None
        options = instance.get("MetadataOptions") or {}
        cards = instance.get("NetworkInterfaces", [])
        data = api.describe_instance_attribute(InstanceId=call.id, Attribute="userData")["UserData"].get(
            "Value"
        )
        profile = (instance.get("IamInstanceProfile") or {}).get("Arn", "").rpartition("/")[2]
        found: Object = {
            "ami": instance["ImageId"],
            "arn": arn(call, "ec2", f"instance/{call.id}"),
            "availabilityZone": instance["Placement"]["AvailabilityZone"],
            "iamInstanceProfile": profile or None,
            "instanceState": instance["State"]["Name"],
            "instanceType": instance["InstanceType"],
            "ipv6Addresses": ipv6_addresses(instance),
            "keyName": instance.get("KeyName") or None,
            "metadataOptions": {name: options.get(argument) for name, argument in _METADATA.items()},
            "primaryNetworkInterfaceId": cards[0]["NetworkInterfaceId"] if cards else None,
            "privateDns": instance.get("PrivateDnsName"),
            "privateIp": instance.get("PrivateIpAddress"),
            "publicDns": instance.get("PublicDnsName") or None,
            "publicIp": instance.get("PublicIpAddress") or None,
            "sourceDestCheck": instance.get("SourceDestCheck", True),
            "subnetId": instance.get("SubnetId"),
            "vpcSecurityGroupIds": [group["GroupId"] for group in instance.get("SecurityGroups", [])],
            **tag_outputs(instance.get("Tags")),
        }
        if data:
            found |= _user_data_as_given(data, call.inputs or call.state)
        return found

    def remove(self, api: Any, call: Call) -> None:
        call.cloud.machines.delete(region_of(call), call.id)
        api.terminate_instances(InstanceIds=[call.id])


def _check_user_data(inputs: Object) -> list[Failure]:
    for name in ("userData", "userDataBase64"):
        if not known(inputs.get(name)):
            continue
        try:
            data = user_data({name: inputs[name]})
        except (binascii.Error, ValueError) as error:
            return [Failure(name, f"found no base64 ({error}); allowed: base64 of the user-data")]
        if len(data) > USER_DATA_LIMIT:
            hint = (
                "" if data[:2] == b"\x1f\x8b" else f"; compressed it has {len(gzip.compress(data, mtime=0))}"
            )
            return [Failure(name, f"found {len(data)} bytes{hint}; allowed: {USER_DATA_LIMIT}")]
    return []


def _user_data_as_given(data: str, given_inputs: Object) -> Object:
    """User-data under the name that it was given by; text and base64 name the same bytes."""
    content = base64.b64decode(data)
    if given_inputs.get("userData") is not None:
        return {"userData": content.decode(errors="replace")}
    same = given_inputs.get("userDataBase64")
    if same is not None and base64.b64decode(same) == content:
        return {"userDataBase64": same}
    return {"userDataBase64": data}


def _instance(api: Any, identifier: str) -> Object:
    reservations = api.describe_instances(InstanceIds=[identifier])["Reservations"]
    if not reservations:
        raise ProviderError(f"instance {identifier} does not exist")
    found: Object = reservations[0]["Instances"][0]
    return found


def _metadata_options(inputs: Object) -> Object:
    options = inputs.get("metadataOptions") or {}
    return {argument: options[name] for name, argument in _METADATA.items() if options.get(name) is not None}


def _root_mapping(root: Object) -> Object:
    names = {
        "deleteOnTermination": "DeleteOnTermination",
        "encrypted": "Encrypted",
        "iops": "Iops",
        "kmsKeyId": "KmsKeyId",
        "volumeSize": "VolumeSize",
        "volumeType": "VolumeType",
    }
    ebs = {argument: root[name] for name, argument in names.items() if root.get(name) is not None}
    return {"DeviceName": root.get("deviceName", "/dev/xvda"), "Ebs": ebs}


class Volume(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ebs/volume/"""

    kind = "volume"
    rules = Rules(
        replaces=frozenset(
            {"availabilityZone", "encrypted", "kmsKeyId", "multiAttachEnabled", "outpostArn", "snapshotId"}
        )
    )
    computed = frozenset({"encrypted", "iops", "kmsKeyId", "size", "snapshotId", "throughput", "type"})

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_volume(
            **given(
                call,
                AvailabilityZone="availabilityZone",
                Size="size",
                VolumeType="type",
                Encrypted="encrypted",
                KmsKeyId="kmsKeyId",
                Iops="iops",
                Throughput="throughput",
                SnapshotId="snapshotId",
            ),
            **self.tag_specifications(call),
        )
        return str(answer["VolumeId"])

    def change(self, api: Any, call: Call) -> None:
        if call.changed("size", "type"):
            old, new = call.old_inputs.get("size"), call.inputs.get("size")
            if old and new and new < old:
                raise ProviderError(
                    f"ModifyVolume: size: found {new} GiB; allowed: at least {old}, volumes only grow"
                )
            api.modify_volume(VolumeId=call.id, **given(call, Size="size", VolumeType="type"))
            call.cloud.machines.sync(region_of(call))
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        volume = api.describe_volumes(VolumeIds=[call.id])["Volumes"][0]
        found: Object = {
            "arn": arn(call, "ec2", f"volume/{call.id}"),
            "availabilityZone": volume["AvailabilityZone"],
            "createTime": volume["CreateTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "encrypted": volume.get("Encrypted", False),
            "kmsKeyId": volume.get("KmsKeyId"),
            "size": volume["Size"],
            "snapshotId": volume.get("SnapshotId") or None,
            "type": volume.get("VolumeType"),
            **tag_outputs(volume.get("Tags")),
        }
        return found

    def remove(self, api: Any, call: Call) -> None:
        api.delete_volume(VolumeId=call.id)
        if call.cloud.machines.booted:
            call.cloud.control.call("machines.delete_volume", volume=call.id)


class VolumeAttachment(Ec2Adapter):
    """With `stopInstanceBeforeDetaching` the server is off when its volume goes, and stays off: see `InstanceState`.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/volumeattachment/
    """

    rules = Rules(replaces=frozenset({"deviceName", "instanceId", "volumeId"}))

    def make(self, api: Any, call: Call) -> str:
        inputs = call.inputs
        api.attach_volume(
            Device=inputs["deviceName"], InstanceId=inputs["instanceId"], VolumeId=inputs["volumeId"]
        )
        return f"vai-{unique(':'.join((inputs['deviceName'], inputs['instanceId'], inputs['volumeId'])), 10)}"

    def set_up(self, api: Any, call: Call) -> None:
        call.cloud.machines.sync(region_of(call))

    def find(self, api: Any, call: Call) -> Object | None:
        source = call.inputs or call.state
        volume = api.describe_volumes(VolumeIds=[source["volumeId"]])["Volumes"][0]
        for entry in volume.get("Attachments", []):
            if entry["InstanceId"] == source["instanceId"]:
                return {
                    "deviceName": entry["Device"],
                    "instanceId": entry["InstanceId"],
                    "volumeId": source["volumeId"],
                }
        return None

    def remove(self, api: Any, call: Call) -> None:
        if call.state.get("skipDestroy"):
            return
        if call.state.get("stopInstanceBeforeDetaching"):
            api.stop_instances(InstanceIds=[call.state["instanceId"]])
            call.cloud.machines.stop(call.state["instanceId"])
        api.detach_volume(VolumeId=call.state["volumeId"], InstanceId=call.state["instanceId"])
        call.cloud.machines.sync(region_of(call))


class InstanceState(Ec2Adapter):
    """Whether a server runs. Removing it leaves the server as it is, as the real provider does.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2transitgateway/instancestate/
    """

    rules = Rules(replaces=frozenset({"instanceId"}))

    def check(self, call: Call) -> list[Failure]:
        state = call.inputs.get("state")
        if known(state) and state not in {"running", "stopped"}:
            return [Failure("state", f"found {state!r}; allowed: running, stopped")]
        return []

    def make(self, api: Any, call: Call) -> str:
        return str(call.inputs["instanceId"])

    def set_up(self, api: Any, call: Call) -> None:
        instance = call.inputs["instanceId"]
        if call.inputs["state"] == "running":
            api.start_instances(InstanceIds=[instance])
            call.cloud.machines.start(region_of(call), instance)
        else:
            api.stop_instances(InstanceIds=[instance])
            call.cloud.machines.stop(instance)

    def find(self, api: Any, call: Call) -> Object | None:
        state = _instance(api, call.id)["State"]["Name"]
        if state in {"terminated", "shutting-down"}:
            return None
        return {"instanceId": call.id, "state": state}

    def remove(self, api: Any, call: Call) -> None:
        pass
