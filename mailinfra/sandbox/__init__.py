"""The clouds on one machine: providers, servers, networks and DNS that `pulumi up` finds in place of real ones."""
