"""What runs on a node beside the mail programs. Only the standard library and Debian 12's packages are at hand."""
