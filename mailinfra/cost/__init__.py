"""What a fleet costs in a month: an estimate from its plan, a price table and what is assumed of its use.

Pure functions. An estimate is a list of items, each of one account, one region and one residency zone; totals are sums
of items, cut any way. An item is *standing* (it costs the same when no mail comes: machines, disks, addresses, keys,
zones, health checks, the nodes' polling and its logs) or *by use* (it grows with mailboxes and messages: snapshots,
vaults, replicas, traffic, signatures, queries). A pilot light that serves nobody costs its standing part.

What is counted is what the components declare, and the copies of the mail that `mailinfra.backup.plan` plans; what is
not is said in `LEFT_OUT`. Sizes are in GiB, which is what both clouds mean by the GB of storage and traffic.
"""

from mailinfra.cost.bill import GLOBAL, LEFT_OUT, Estimate, Item, Sum
from mailinfra.cost.items import estimate
from mailinfra.cost.scale import at_full_size, scaled
from mailinfra.cost.usage import Usage

__all__ = ["GLOBAL", "LEFT_OUT", "Estimate", "Item", "Sum", "Usage", "at_full_size", "estimate", "scaled"]
