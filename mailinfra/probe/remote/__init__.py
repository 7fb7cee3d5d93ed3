"""Scripts that the probe runs on the sandbox's machines, under Debian's python3.

Each stands alone: its text is handed to `python3 -c`, what it is told comes through standard input. Only the
standard library and the packages of the machine's image are at hand.
"""
