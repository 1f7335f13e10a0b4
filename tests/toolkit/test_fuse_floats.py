"""At fp and bf16 customcpu's graphs are fused and packed too: they give what the padded ones do, at the real tokens."""

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn

from targets import customcpu
from targets._attention import Attention
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.toolkit.fusing import inputs, mask_of, model_of
from tests.toolkit.test_first_position import READS_FIRST
from tests.toolkit.test_fuse import COUNTS, DECODERS, ENCODERS, PADDINGS
from toolkit import Recipe, report_of, transform
from toolkit.fuse import NAMES
from toolkit.fuse.matching import ROWS
from toolkit.fuse.wide import widen_rows
from toolkit.pipeline import captured, fuse

# Rounding of float32 in another order leaves 110 dB and more. In bfloat16 the products are rounded the same, all else
# less often than in PyTorch's graph, so they differ by about what that graph itself differs from float32.
GATE_DB = {"fp": 105, "bf16": 30}
# the answer to one token of one sequence is one number, of which a ratio of powers says nothing in bfloat16
PADDED = [("fp", padding) for padding in PADDINGS] + [("bf16", padding) for padding in PADDINGS[:-1]]
QUANTIZED = ("quantize", "gate_rows", "attention_rows", "feed_forward", "layers")  # these are about rows of bytes
# a norm between a sum that is kept and floats is one by itself, but for the last
INNER = {"add_norm": 1, "embeddings": 4, "lookups": 0}


@cache
def lowered(name: str, precision: str, without: tuple[str, ...] = (), target: str = "customcpu") -> fx.GraphModule:
    return transform(model_of(name), Recipe(precision, without=without), target)


def check(name: str, precision: str, graph: fx.GraphModule, given: dict[str, Tensor], packed: bool = True) -> None:
    """Every output as the padded graph of PyTorch's kernels has it, and zeros at padding if the graph is packed."""
    real = given["attention_mask"].bool()
    have, want = graph(**given), lowered(name, precision, target="cpu")(**given)
    for key, value in want.items():
        assert have[key].shape == value.shape and have[key].dtype == value.dtype == torch.float32
        assert_sqnr(have[key][real], value[real], GATE_DB[precision])
        assert not packed or not have[key][~real].any()


@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", COUNTS)
def test_how_often_each_is_applied(name, precision):
    inner = INNER if name in DECODERS else {}
    counts = {name: count for name, count in report_of(lowered(name, precision)).fused.items() if name != "calls"}
    assert counts == {**COUNTS[name], **dict.fromkeys(QUANTIZED, 0), **inner}


@pytest.mark.parametrize("precision, padding", PADDED)
@pytest.mark.parametrize("name", ENCODERS + DECODERS)
def test_equals_the_padded_graph(name, precision, padding):
    # of an answer that is one number the last bits of GELU, taken in one step, are all the noise there is
    without = ("gelu_steps",) if padding == PADDINGS[-1] else ()
    check(name, precision, lowered(name, precision, without), inputs(name, mask_of(padding)))


@pytest.mark.parametrize("left_out", NAMES)
@pytest.mark.parametrize("precision", GATE_DB)
def test_any_one_can_be_left_out(precision, left_out):
    graph = lowered("bert", precision, (left_out,))
    fused = report_of(graph).fused
    assert left_out not in fused
    check("bert", precision, graph, inputs("bert", mask_of("right")), packed=bool(fused.get("packing")))


@pytest.mark.parametrize("precision", GATE_DB)
def test_padding_costs_nothing_unless_it_is_asked_for(precision):
    """What the first layer's linears multiply: rows of the real tokens, or of all positions."""
    given = inputs("bert", mask_of("right"))
    tokens, positions = int(given["attention_mask"].sum()), given["attention_mask"].numel()
    for without, want in ((("calls",), tokens), (("packing", "calls"), positions)):  # hooks are for modules
        seen = []
        graph = transform(model_of("bert"), Recipe(precision, without=without), "customcpu")
        linear = graph.get_submodule("bert.encoder.layer.0.intermediate.dense")
        linear.register_forward_hook(lambda module, args, result, seen=seen: seen.append(result.numel() // 52))
        graph(**given)
        assert seen == [want]


@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_more_padding_changes_no_bit(name, precision):
    graph, given = lowered(name, precision), inputs(name, mask_of("right"))
    wider = {key: nn.functional.pad(value, (0, 20), value=0) for key, value in given.items()}
    wider["input_ids"][:, 12:] = tiny.PAD
    for short, long in zip(graph(**given).values(), graph(**wider).values(), strict=True):
        assert_equal_bits(long[:, :12], short)
        assert not long[:, 12:].any()


@pytest.mark.parametrize("padding", PADDINGS[:-1])
@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", READS_FIRST)
def test_a_head_that_reads_the_first_position(name, precision, padding):
    given, graph = inputs(name, mask_of(padding)), lowered(name, precision)
    assert report_of(graph).fused["packing"] == 1
    have, want = (list(each(**given).values())[-1] for each in (graph, lowered(name, precision, target="cpu")))
    assert have.dtype == want.dtype == torch.float32
    assert_sqnr(have, want, GATE_DB[precision])


@pytest.mark.parametrize("name", ENCODERS)
def test_bfloat16_is_nearer_to_float_than_pytorch_s(name):
    """Sums, norms and the rows between layers stay float32; PyTorch rounds them all."""
    given = inputs(name, mask_of("none"))
    want = model_of(name)(**given)[0]
    ours, stock = (sqnr(lowered(name, "bf16", target=target)(**given)[0], want) for target in ("customcpu", "cpu"))
    assert ours > stock


@pytest.mark.parametrize(
    "precision, attention, precise",
    [("fp", "auto", True), ("fp", "fast", False), ("bf16", "auto", False), ("bf16", "fp", True)],
)
def test_attention_is_as_precise_as_the_precision(precision, attention, precise):
    graph = transform(model_of("bert"), Recipe(precision, attention=attention), "customcpu")
    found = [module.precise for module in graph.modules() if isinstance(module, Attention)]
    assert found == [precise] * 2


@pytest.mark.parametrize("precision", GATE_DB)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_report_counts_every_linear_once(name, precision):
    """query, key and value are one linear in the graph, and three in the report."""
    padded, packed = (report_of(lowered(name, precision, target=target)) for target in ("cpu", "customcpu"))
    assert packed.swapped == len(padded.kept) and not packed.kept


class Mixed(nn.Module):
    """Attention and a norm on rows; one linear on rows and on the mean of all of them; a scale that enters from there.

    Nothing of this is in the models above, and padding stays, since the mean looks at all positions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(tiny.VOCABULARY, 32), nn.Linear(32, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.norm = nn.LayerNorm(32)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.words(input_ids)
        parts = [part(x) for part in (self.query, self.key, self.value)]
        heads = [part.view(*input_ids.shape, 4, 8).transpose(1, 2) for part in parts]
        mask = attention_mask[:, None, None].bool()
        y = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2)
        y = y.reshape(*input_ids.shape, 32)
        y = self.norm(self.out(y) + x)
        mean = y.mean(1, keepdim=True)
        return {"mean": self.out(mean), "rows": self.norm(self.out(y * mean.sigmoid()) + x)}


@pytest.mark.parametrize("precision", GATE_DB)
def test_what_leaves_and_enters_rows(precision):
    torch.manual_seed(0)
    model = Mixed().eval()
    given = {"input_ids": torch.arange(24).view(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
    graph, stock = (transform(model, Recipe(precision), target) for target in ("customcpu", "cpu"))
    assert report_of(graph).fused["rows"] == 1 and not report_of(graph).fused["packing"]
    for key, want in stock(**given).items():
        assert_sqnr(graph(**given)[key], want, GATE_DB[precision])


class Dtypes(fx.Interpreter):
    """Notes the dtype of every row of tokens that is float, but for those that are only converted."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.seen: set[torch.dtype] = set()

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        read = any(user.target is not torch.ops.aten.to.dtype for user in n.users)
        if n.meta.get(ROWS) is True and read and isinstance(result, Tensor) and result.is_floating_point():
            self.seen.add(result.dtype)
        return result


@pytest.mark.parametrize("left_out", [None, *NAMES])
@pytest.mark.parametrize("name", ["bert", "albert", "classifier"])
def test_rows_are_float32_between_the_modules(name, left_out):
    """On reference modules, whatever is fused; without rows there are none."""
    graph = copy.deepcopy(captured(model_of(name), "bf16"))
    fuse(graph, customcpu.TARGET.fusions - {left_out})
    widen_rows(graph)
    graph.recompile()
    given, seen = inputs(name, mask_of("right")), Dtypes(graph)
    seen.run(*given.values())
    assert seen.seen == (set() if left_out == "rows" else {torch.float32})
