"""The rules, one to a file; a file's name is its rule's id with underscores."""

import importlib
import pkgutil
from functools import cache

from mailinfra_policy.rule import Rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, in the order of their ids."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    found: list[Rule] = [importlib.import_module(f"{__name__}.{name}").RULE for name in modules]
    return tuple(sorted(found, key=lambda rule: rule.id))


def ids() -> frozenset[str]:
    """The ids that exist."""
    return frozenset(rule.id for rule in all_rules())
