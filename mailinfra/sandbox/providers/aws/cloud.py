"""AWS as a `Cloud`."""

from mailinfra.sandbox.providers.base import Cloud


class AwsCloud(Cloud):
    """AWS."""

    name = "aws"
    package = "pulumi_aws"
