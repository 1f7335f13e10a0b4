"""What would have made a graph faster and could not be done to it: noted on the graph, for its report."""

from torch import fx

KEY = "opswap_missed"  # in a graph's meta: what and why, by what it could not be done to


def miss(graph: fx.GraphModule, what: str, name: str, why: str) -> None:
    """what: a fusion by its name, or what else was tried; name: of a node, or the graph. The last word on one stays."""
    graph.meta.setdefault(KEY, {})[name] = what, why


def found_a_way(graph: fx.GraphModule, name: str) -> None:
    """Something else was done to `name`."""
    graph.meta.get(KEY, {}).pop(name, None)


def missed(graph: fx.GraphModule) -> tuple[dict[str, object], ...]:
    """→ {"what", "why", "names"} of what was noted, each reason once; the graph forgets it"""
    names: dict[tuple[str, str], list[str]] = {}
    for name, reason in graph.meta.pop(KEY, {}).items():
        names.setdefault(reason, []).append(name)
    return tuple({"what": what, "why": why, "names": found} for (what, why), found in names.items())
