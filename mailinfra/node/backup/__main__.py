"""`python3 -m mailinfra.node.backup run` backs up what is due; `restores` does what operators ask for, until it is
told to end."""

import logging
import sys

from mailinfra.node.agent.node import load


def main() -> int:
    """Do one of the two."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    # It says at every start where its credentials come from.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    if sys.argv[1:] == ["run"]:
        from mailinfra.node.backup import run

        return run.main(load())
    if sys.argv[1:] == ["restores"]:
        from mailinfra.node.backup import serve

        return serve.main(load())
    sys.stderr.write("usage: python3 -m mailinfra.node.backup run|restores\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
