"""Pulumi providers for the clouds on one machine: one plugin process a cloud, speaking the engine's own protocol."""
