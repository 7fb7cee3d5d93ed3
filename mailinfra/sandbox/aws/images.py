"""The machine images that the sandbox's EC2 offers: Debian 12 and 13, as Debian publishes them, in every region.

An id is made from the name, so that it is the same in every sandbox and needs no daemon to be looked up.
Source of names and owner: https://wiki.debian.org/Cloud/AmazonEC2Image/Bookworm
"""

import hashlib
from dataclasses import dataclass

DEBIAN_OWNER = "136693071363"
"""The AWS account that Debian publishes its images from."""


@dataclass(frozen=True)
class Image:
    """An image: its name, EC2 architecture (`x86_64`, `arm64`) and creation date (ISO 8601)."""

    name: str
    architecture: str
    created: str
    description: str

    @property
    def id(self) -> str:
        """Its id, the same in every region here (the real EC2 has one for each region)."""
        return f"ami-{hashlib.sha256(self.name.encode()).hexdigest()[:17]}"


def _debian(release: int, build: str, created: str) -> tuple[Image, ...]:
    return tuple(
        Image(
            name=f"debian-{release}-{debian}-{build}",
            architecture=architecture,
            created=created,
            description=f"Debian {release} ({build})",
        )
        for debian, architecture in (("amd64", "x86_64"), ("arm64", "arm64"))
    )


IMAGES = (
    *_debian(12, "20250814-2204", "2025-08-14T00:00:00.000Z"),
    *_debian(12, "20251112-2294", "2025-11-12T00:00:00.000Z"),
    *_debian(13, "20251117-2299", "2025-11-17T00:00:00.000Z"),
)
"""Oldest first within a release."""
