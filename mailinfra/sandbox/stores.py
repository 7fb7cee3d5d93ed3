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
        region: S3Store(str(known["bucket"]), endpoint=amazon, region=region)
        if known["cloud"] == Cloud.AWS
        else GcsStore(str(known["bucket"]), endpoint=google["url"], token=lambda: str(google["token"]))
        for region, known in regions.items()
    }
