"""Which resource types of all clouds are *live* in the sandbox; every other type is *recorded*."""

import importlib

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.__main__ import CLOUDS


def live_types(paths: Paths) -> frozenset[str]:
    """The tokens of the live types (`aws:kms/key:Key`)."""
    clouds = [importlib.import_module(f"mailinfra.sandbox.providers.{name}").cloud(paths) for name in CLOUDS]
    return frozenset(token for cloud in clouds for token in cloud.adapters)
