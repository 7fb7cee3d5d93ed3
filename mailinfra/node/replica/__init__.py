"""The replica of a mailbox node's mail: the home's mailboxes are followed, within seconds, by another node.

Dovecot's own dsync does the work (`doveadm sync`, two-way): the home is the only side that is written to in normal
times, but after a take-over there may be mail on both, and a two-way sync merges by GUID, so that nothing is lost and
nothing doubled. On every mailbox node run two programs, so that what reads mail holds no key and what holds the key
reads no mail:

* `gate` (user mailinfra) has the node's certificate: TLS 1.3 between nodes, and who may sync whom;
* `replicator` (user vmail) watches the mailboxes and runs dsync, on either side.

A request is one line, the same on every hop: `SYNC <user> <epoch>` or `CHECK <user>`. From the home's replicator (or
`link`, which stands between dsync and the gate) it goes to the home's gate, from there to the replica's gate, and to
the replica's replicator. The answer is one line, `OK <epoch>` or `NO <reason>`; after the OK to a SYNC come dsync's
bytes. The epoch names one run of the replica's replicator: dsync's incremental state is worth nothing when the replica
may have come back with another volume.
"""
