"""The regions' control buckets as the host reaches them, for publishing the directory."""

from collections.abc import Mapping
from typing import Any

from mailinfra.fleet import Cloud
from mailinfra.publish import GcsStore, S3Store, Store
from mailinfra.sandbox.control import ControlClient


def region_stores(control: ControlClient, regions: Mapping[str, Mapping[str, Any]]) -> dict[str, Store]:
    """A store for each region. `regions` is the stack's output of that name: region to `cloud` and `bucket`."""
    google = control.call("gcp.endpoint")
    amazon = control.call("aws.info")["endpoint"]
    return {
        region: S3Store(str(known["bucket"]), region, client=_s3(amazon, region))
        if known["cloud"] == Cloud.AWS
        else GcsStore(str(known["bucket"]), endpoint=google["url"], token=lambda: str(google["token"]))
        for region, known in regions.items()
    }


def _s3(endpoint: str, region: str) -> Any:
    import boto3

    # moto takes any credentials; these keep the user's own out of it.
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",  # noqa: S106
    )
