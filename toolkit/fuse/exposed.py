"""Who may write to a value, or hand it out of the graph: asked before the same memory is given to every call."""

from torch import fx

from targets._memory import sources, written_by


class Exposed:
    """Asks of each value of a graph once. returned: whether what the graph returns is exposed."""

    def __init__(self, returned: bool = True) -> None:
        self.returned = returned
        self.known: dict[fx.Node, bool] = {}

    def __call__(self, node: fx.Node) -> bool:
        """Whether any node writes to the value of `node`, or to what may share its memory, or the graph returns it"""
        if node not in self.known:
            self.known[node] = any(self._by(user, node) for user in node.users)
        return self.known[node]

    def _by(self, user: fx.Node, node: fx.Node) -> bool:
        if user.op == "output":
            return self.returned
        return node in written_by(user) or (node in sources(user) and self(user))
