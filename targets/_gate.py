"""A gated feed-forward in the fused graph: act(a) · b, where one linear makes a and b side by side."""

from torch import Tensor, nn

from operators.gate import gated
from targets._linear import Activation, QuantizedLinear, Rows


class Gate(nn.Module):
    """x float32 or bfloat16 [..., 2N] → act(one half) · the other [..., N], of x's dtype

    act: one of operators.gate.ACTIVATIONS; second: it is of the second half, not the first.
    """

    def __init__(self, act: str, second: bool) -> None:
        super().__init__()
        self.act, self.second = act, second

    def forward(self, x: Tensor) -> Tensor:
        return gated(x, self.act, self.second)

    def extra_repr(self) -> str:
        return f"{self.act}, second={self.second}"


class RowsLinearGate(nn.Module):
    """rows [T, K] → gate(linear(rows)) as rows [T, N] by `activation`; the linear has 2N outputs"""

    def __init__(self, linear: QuantizedLinear, gate: Gate, activation: Activation) -> None:
        super().__init__()
        self.linear, self.gate, self.activation = linear, gate, activation
        self.levels = activation.levels()

    def forward(self, rows: Rows) -> Rows:
        return self.activation.quantize(self.gate(self.linear.multiply(rows)))

    def extra_repr(self) -> str:
        return str(self.activation)
