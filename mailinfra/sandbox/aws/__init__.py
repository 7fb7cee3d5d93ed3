"""AWS's part of the sandbox's daemon: moto behind the services' own host names."""
