"""What a request's fields say beside their types: how people are asked, what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class InName(Enum):
    """How a field of a request gets into the names of generations (`flows.plan.generation`).

    What changes pixels has to change the name, so every field says which of these it is.
    """

    BY_VALUE = "it changes pixels in a way that only its value tells"
    BY_CONTENT = "what it leads to is in the name: the lattice, the pairs, the weights' hash"
    NOT = "it changes no pixel"


@dataclass(frozen=True)
class Prompt:
    """How people are asked for a field: under which heading, with which word for its value."""

    group: str
    metavar: str
    is_path: bool = False
    """May be a path; a relative one starts where the request was written down."""


WHAT, WHERE, HOW = "what", "where to", "how"
