"""What all EC2 types share."""

from typing import Any

from mailinfra.sandbox.providers.aws.adapter import AwsAdapter, removed_tags, tag_list
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.values import Object


class Ec2Adapter(AwsAdapter):
    """A type of EC2's. `kind` is EC2's name of it for tags (`vpc`); empty for what has none."""

    service = "ec2"
    kind = ""

    def tag_specifications(self, call: Call) -> Object:
        """Argument that tags a resource as it is made."""
        tags = tag_list(call.inputs.get("tags"))
        return (
            {"TagSpecifications": [{"ResourceType": self.kind, "Tags": tags}]} if tags and self.kind else {}
        )

    def change_tags(self, api: Any, call: Call, identifier: str | None = None) -> None:
        """Bring the tags up to date."""
        if not call.changed("tags"):
            return
        resource = [identifier or call.id]
        if removed := removed_tags(call):
            api.delete_tags(Resources=resource, Tags=[{"Key": key} for key in removed])
        if tags := tag_list(call.inputs.get("tags")):
            api.create_tags(Resources=resource, Tags=tags)


def given(call: Call, **names: str) -> Object:
    """The arguments of an API call from those inputs that are given: `CidrBlock="cidrBlock"`."""
    return {
        argument: call.inputs[name]
        for argument, name in names.items()
        if call.inputs.get(name) not in (None, "")
    }
