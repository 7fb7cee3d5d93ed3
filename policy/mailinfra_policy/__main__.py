"""`python -m mailinfra_policy` prints the folder of the pack, for `pulumi up --policy-pack "$(…)"`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.stdout.write(f"{Path(__file__).parent / 'pack'}\n")
