"""The repository of a node's mail in the vault, and how mail comes back from it."""
