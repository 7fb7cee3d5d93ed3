"""What a fleet's config says across fields that cannot be."""

from mailinfra.errors import Problem
from mailinfra.fleet import Fleet
from mailinfra.places import PLACES, Places


def problems(fleet: Fleet, places: Places = PLACES) -> list[Problem]:
    """Every problem of a fleet whose fields are each well formed."""
    return []
