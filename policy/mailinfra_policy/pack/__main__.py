"""What the engine runs: the pack's server."""

from mailinfra_policy.analyzer import serve

serve()
