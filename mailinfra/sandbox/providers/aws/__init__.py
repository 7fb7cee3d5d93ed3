"""The AWS provider of the sandbox."""

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.aws.cloud import AwsCloud


def cloud(paths: Paths) -> AwsCloud:
    """AWS as the sandbox at `paths` has it."""
    return AwsCloud(paths)
