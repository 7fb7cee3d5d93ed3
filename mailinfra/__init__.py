"""mailinfra: a whole mail system as code. One mail domain, many servers, several regions and clouds."""
