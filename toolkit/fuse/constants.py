"""What linears make of parameters alone, computed once."""

from torch import fx

from toolkit.fuse.decided import above, is_function, values_of, written_to
from toolkit.fuse.exposed import Exposed
from toolkit.fuse.matching import free_name, module_of, parameter
from toolkit.fuse.rows import LINEARS
from toolkit.rotated import Rotated


def fold_constants(gm: fx.GraphModule) -> int:
    """linear(parameter), and what follows of that and parameters alone → a buffer with its value

    Of weights as they are now, as a packed weight is. DeBERTa's queries and keys of distances are such, of which each
    layer has as many rows as many texts have tokens. What anything writes to stays. → how many buffers
    """
    known = _known(gm)
    results = [node for node in known if node.op != "get_attr" and not known.keys() >= node.users.keys()]
    folded = [node for node in results if any(isinstance(module_of(gm, one), LINEARS) for one in above(node, known))]
    values = values_of(gm, set[fx.Node]().union(*(above(node, known) for node in folded)))
    for node in folded:
        name = free_name(gm, "constant")
        held = values[node].clone()  # a view may hold far more than its own
        gm.register_buffer(name, held, persistent=False)
        with gm.graph.inserting_before(node):
            read = gm.graph.get_attr(name)
        read.meta = {"val": held}
        node.replace_all_uses_with(read)
    return len(folded)


def _known(gm: fx.GraphModule) -> dict[fx.Node, None]:
    """→ the nodes whose value parameters decide that nobody writes to, in order"""
    exposed, written, known = Exposed(), written_to(gm), dict[fx.Node, None]()
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            decided = node.target not in written and parameter(gm, node) is not None
        else:
            read = known.keys() >= set(node.all_input_nodes) and bool(node.all_input_nodes)
            decided = read and (isinstance(module_of(gm, node), (*LINEARS, Rotated)) or is_function(node))
            decided = decided and not exposed(node)
        if decided:
            known[node] = None
    return known
