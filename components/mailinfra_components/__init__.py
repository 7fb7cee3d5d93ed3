"""Pulumi components of a mail fleet. `from mailinfra_components import MailFleet`; each is usable alone.

The names are looked up when they are asked for: importing one component does not load the others' cloud SDKs, and
Pulumi's package mode takes the list of components from `__main__`, not from here.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AwsFederation": "vaults",
    "BackupVault": "vaults",
    "DkimKeys": "dkim",
    "MailFleet": "fleet",
    "MailKeys": "keys",
    "MailLinks": "links",
    "MailNetwork": "network",
    "MailNodes": "nodes",
    "MailRecords": "records",
    "MailSnapshots": "snapshots",
    "MailTraces": "traces",
    "MxRouting": "routing",
    "ProjectTraces": "traces",
    "UserDirectory": "directory",
}

__all__ = list(_HOMES)  # every key is a string


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
