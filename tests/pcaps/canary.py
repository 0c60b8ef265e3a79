"""The canaries and their search, which are the product's own: `bunker rehearse` uses the same code."""

from bunker.open.rehearsal.canaries import (
    Canaries,
    Canary,
    Hit,
    Search,
    make_canaries,
    may_be_chance,
    search,
    search_tree,
)

__all__ = ["Canaries", "Canary", "Hit", "Search", "make_canaries", "may_be_chance", "search", "search_tree"]
