"""All that a layer computes for each token by itself as one module: nothing of it has to wait for other tokens."""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from torch import fx

from targets._fused import FeedForward, RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from toolkit.fuse.matching import add_module, calls, mark_rows, module_of, only_user, part_of


class Chain(NamedTuple):
    """The calls of a layer's modules; then: of the linear that reads its result, None if there is none or another
    reader."""

    first: fx.Node
    wide: fx.Node
    second: fx.Node
    then: fx.Node | None


def fuse_feed_forward(gm: fx.GraphModule) -> int:
    """y, rows = RowsLinearAddNorm(rows, residual); y', rows' = RowsLinearAddNorm'(RowsLinearGelu(rows), y);
    z = RowsLinear(rows') → y', z = FeedForward(rows, residual)

    Without the last linear where others read rows' too, or y' alone where nothing does. All calls of the modules, or
    none; modules that are called several times leave the last linear out, and so does one with more weights than all
    the others, a language model's head: it would push theirs out of the cache. A norm between two such chains goes with
    the first, which leaves the second as it is. → how many layers
    """
    groups: dict[tuple[str, ...], list[Chain]] = defaultdict(list)
    for node in calls(gm, RowsLinearAddNorm):
        chain = _chain(gm, node)
        if chain is not None:
            groups[tuple(str(call.target) for call in chain[:3])].append(chain)
    used = Counter(str(node.target) for node in gm.graph.find_nodes(op="call_module"))
    fused, taken = 0, set[str]()
    for names, chains in groups.items():
        if taken & set(names) or any(used[name] != len(chains) for name in names):
            continue
        taken.update(names)
        then = chains[0].then if len(chains) == 1 else None
        first, wide, second = (gm.get_submodule(name) for name in names)
        last: Any = module_of(gm, then)
        if then is not None and (used[str(then.target)] > 1 or _weights(last) > _weights(first, wide, second)):
            then = last = None
        made = FeedForward(first, wide, second, last)  # type: ignore[arg-type]
        name = add_module(gm, "feed_forward", made)
        for chain in chains:
            _replace(gm, chain, then, name)
        fused += len(chains)
    return fused


def _chain(gm: fx.GraphModule, first: fx.Node) -> Chain | None:
    """→ the calls that follow each other from `first` on, None if they are others"""
    y, rows = (part_of(first, index) for index in (0, 1))
    if y is None or rows is None:
        return None
    wide, second = only_user(rows), only_user(y)
    fits = isinstance(module_of(gm, wide), RowsLinearGelu) and type(module_of(gm, second)) is RowsLinearAddNorm
    if not fits or wide is None or second is None or only_user(wide) is not second or second.args != (wide, y):
        return None
    made = part_of(second, 1)
    then = None if made is None else only_user(made)
    return Chain(first, wide, second, then if type(module_of(gm, then)) is RowsLinear else None)


def _weights(*modules: Any) -> int:
    """→ how many weights the linears in `modules` have"""
    return sum(module.linear.in_features * module.linear.out_features for module in modules)


def _replace(gm: fx.GraphModule, chain: Chain, then: fx.Node | None, name: str) -> None:
    with gm.graph.inserting_before(chain.second):
        call = mark_rows(gm.graph.call_module(name, chain.first.args))
    chain.second.replace_all_uses_with(call)
    if then is not None:
        then.replace_all_uses_with(then.args[0])  # type: ignore[arg-type]  # where the rows were, its result is now
