"""CloudWatch's log groups."""

from typing import Any

from mailinfra.sandbox.providers.aws.adapter import AwsAdapter, arn, removed_tags
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.values import Object


class LogGroup(AwsAdapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/cloudwatch/loggroup/"""

    service = "logs"
    rules = Rules(replaces=frozenset({"name", "namePrefix", "logGroupClass"}))
    computed = frozenset({"logGroupClass", "namePrefix", "deletionProtectionEnabled"})

    def make(self, api: Any, call: Call) -> str:
        optional = {"kmsKeyId": call.inputs.get("kmsKeyId"), "tags": call.inputs.get("tags")}
        api.create_log_group(
            logGroupName=call.inputs["name"], **{key: value for key, value in optional.items() if value}
        )
        return str(call.inputs["name"])

    def set_up(self, api: Any, call: Call) -> None:
        if not call.changed("retentionInDays"):
            return
        # 0 means for ever, here and in CloudWatch's console; the API knows only "no policy".
        if days := call.inputs.get("retentionInDays"):
            api.put_retention_policy(logGroupName=call.id, retentionInDays=days)
        else:
            api.delete_retention_policy(logGroupName=call.id)

    def change(self, api: Any, call: Call) -> None:
        self.set_up(api, call)
        if call.changed("kmsKeyId"):
            if key := call.inputs.get("kmsKeyId"):
                api.associate_kms_key(logGroupName=call.id, kmsKeyId=key)
            else:
                api.disassociate_kms_key(logGroupName=call.id)
        if call.changed("tags"):
            resource = arn(call, "logs", f"log-group:{call.id}")
            if removed := removed_tags(call):
                api.untag_resource(resourceArn=resource, tagKeys=removed)
            if tags := call.inputs.get("tags"):
                api.tag_resource(resourceArn=resource, tags=tags)

    def find(self, api: Any, call: Call) -> Object | None:
        groups = api.describe_log_groups(logGroupNamePrefix=call.id)["logGroups"]
        group = next((entry for entry in groups if entry["logGroupName"] == call.id), None)
        if group is None:
            return None
        resource = arn(call, "logs", f"log-group:{call.id}")
        tags = api.list_tags_for_resource(resourceArn=resource).get("tags", {})
        return {
            "arn": resource,
            "name": call.id,
            "kmsKeyId": group.get("kmsKeyId"),
            "retentionInDays": group.get("retentionInDays", 0),
            "tags": tags,
            "tagsAll": tags,
        }

    def remove(self, api: Any, call: Call) -> None:
        if not call.state.get("skipDestroy"):
            api.delete_log_group(logGroupName=call.id)
