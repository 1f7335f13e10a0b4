"""Whole models token by token through captured steps: on a GPU by CUDA graphs, else by what stands in for them."""

import copy
import threading
from functools import partial

import pytest
import torch
from torch import Tensor

from models.generation import How, generate
from targets.cuda import cached, steps
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.cuda.stepping import MODELS, Graphs, going_on, ids_of, model_of, uncaptured
from tests.toolkit.test_cache import NEW, SAME_DB, bloom, by_cache, language_model, whole
from toolkit import Recipe, report_of, transform
from toolkit.cache import past_of, with_cache
from toolkit.inputs import KEY

# fp8: attention over more or fewer keys at once turns a level here and there, of which a number has 16 around its own
DB = {**SAME_DB, "fp": 100.0, "fp8": 30.0}
# and what is multiplied by what a gate makes of it is turned twice; attention to a whole text has keys of 32 bits where
# heads share them
GATED_DB = {"int": 33.0, "fp8": 20.0}
KEPT = {"fp": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int": torch.float16, "fp8": torch.float16}
UNIT = 8  # tokens, where rooms are to grow


def db_of(name: str, precision: str, db: dict[str, float]) -> float:
    return {**db, **(GATED_DB if name != "gpt2" else {})}[precision]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    made = Graphs()
    monkeypatch.setattr(steps, "capture_on", lambda device: made)
    return made


@pytest.fixture
def small_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few tokens, so that they grow within the positions of a tiny model."""
    monkeypatch.setattr(cached, "REACH", UNIT)
    monkeypatch.setattr(steps, "REACH", UNIT)


@pytest.mark.parametrize("precision", KEPT)
@pytest.mark.parametrize("name", MODELS)
def test_token_by_token_is_the_whole_text(graphs: Graphs, name: str, precision: str) -> None:
    """Left padding, a text that drops out half way, and all of it twice: the second time as the first"""
    graph, plain = model_of(precision, name), transform(MODELS[name](), Recipe(precision), "cuda")
    assert report_of(graph).fused["cached"] == 2 and not report_of(graph).missed
    first, second = by_cache(graph), by_cache(graph)
    for have, again, want in zip(first, second, whole(plain), strict=True):
        assert_sqnr(have, want, db_of(name, precision, {"fp": 100.0, **SAME_DB}))
        assert_equal_bits(again, have)
    assert graphs.reaches == [cached.REACH] * 4  # of three texts and of two, twice


@pytest.mark.parametrize("precision", KEPT)
def test_keys_and_values_lose_no_precision_that_the_floats_between_kernels_have(precision: str) -> None:
    inputs = model_of(precision).meta[KEY]
    assert {one.dtype for one in inputs.past} == {KEPT[precision]}


@pytest.mark.parametrize("name, precision", [*(("gpt2", precision) for precision in KEPT), ("llama", "int")])
def test_rooms_grow(
    graphs: Graphs, small_rooms: None, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    """What is replayed is what is computed anew, bit for bit, and what goes any other way but for rounding."""
    ids = ids_of(2, 26)
    anew, other = (uncaptured(monkeypatch, precision, again, name) for again in (True, False))
    graph = model_of(precision, name)
    for have, same, want in zip(*(going_on(one, ids, 3) for one in (graph, anew, other)), strict=True):
        assert_equal_bits(have, same)
        assert_sqnr(have, want, db_of(name, precision, DB))
    # of 8 tokens; of 24, when they are 9; of 56, when they are 25
    assert graphs.reaches == [8, 16, 24, 32] and graphs.alive == [32]
    going = going_on(graph, ids[:, :10], 3)
    next(going)
    assert graphs.alive == []  # another text has other rooms
    list(going)
    assert graphs.reaches[4:] == [8, 16] and graphs.alive == [16]


def test_a_cache_that_is_continued_twice(graphs: Graphs) -> None:
    """Each way on is what it is alone, and no cache that was returned earlier ever changes."""
    graph, ids = model_of("fp"), ids_of(1, 12)
    ones, names = torch.ones_like(ids), past_of(graph)

    def call(start: int, end: int, past: tuple[Tensor, ...], token: int | None = None) -> tuple[Tensor, ...]:
        new = ids[:, start:end] if token is None else torch.tensor([[token]])
        made = graph(input_ids=new, attention_mask=ones[:, :end], **dict(zip(names, past, strict=False)))
        caches.append((made.past_key_values, [part.clone() for part in made.past_key_values]))
        logits.append(made.logits)
        return tuple(made.past_key_values)

    caches: list[tuple[tuple[Tensor, ...], list[Tensor]]] = []
    logits: list[Tensor] = []
    last = call(0, 4, ())
    for end in range(5, 9):
        last = call(end - 1, end, last)
    for token in (7, 8, 7):
        one = call(8, 9, last, token)
        call(9, 10, one)
    for have, want in zip(logits[-2:], logits[-6:-4], strict=True):
        assert_sqnr(have, want, 100)
    assert float((logits[-2] - logits[-4]).abs().max()) > 0.01
    for parts, copies in caches:
        for part, before in zip(parts, copies, strict=True):
            assert_equal_bits(part.contiguous(), before)
    assert graphs.reaches == [cached.REACH] * 3  # of the first rooms, and of a copy for each other way


@pytest.mark.parametrize("precision", ["bf16", "int"])
def test_what_memory_held_before_is_nothing(graphs: Graphs, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    ids, empty = ids_of(2, 20), Tensor.new_empty
    want = list(going_on(model_of(precision), ids, 6))
    monkeypatch.setattr(Tensor, "new_empty", lambda *size, **kw: _spoilt(empty(*size, **kw)))
    for have, expected in zip(going_on(model_of(precision), ids, 6), want, strict=True):
        assert have.isfinite().all()
        assert_equal_bits(have, expected)


def _spoilt(memory: Tensor) -> Tensor:
    return memory.fill_(torch.nan) if memory.is_floating_point() else memory


def test_modes_may_change_from_step_to_step(graphs: Graphs) -> None:
    graph, ids = model_of("int"), ids_of(2, 16)
    want, going, found = list(going_on(graph, ids, 6)), going_on(graph, ids, 6), []
    modes = (*[torch.inference_mode] * 3, torch.no_grad, torch.enable_grad)  # it is captured in the third call
    for number in range(len(want)):
        with modes[number % 5]():
            found.append(next(going))
    for have, expected in zip(found, want, strict=True):
        assert_equal_bits(have, expected)
    assert graphs.reaches == [cached.REACH] * 2


def test_inputs_of_the_caller_stay_as_they_are(graphs: Graphs) -> None:
    graph, past = model_of("fp"), dict[str, Tensor]()
    kept = []
    for token in range(6):
        given = {"input_ids": torch.tensor([[10 + token]]), "attention_mask": torch.ones(1, token + 1).long(),
                 "position_ids": torch.tensor([[token]])}  # fmt: skip
        kept.append((given, {name: value.clone() for name, value in given.items()}, made := graph(**given, **past)))
        past = dict(zip(past_of(graph), made.past_key_values, strict=True))
        kept[-1] += (made.logits.clone(),)
    for given, before, made, logits in kept:
        assert all(torch.equal(given[name], before[name]) for name in given)
        assert_equal_bits(made.logits, logits)


def test_calls_of_many_tokens_in_between(graphs: Graphs) -> None:
    """Their keys and values go to the same rooms, so the captured steps stay."""
    graph, ids, past, found = model_of("fp"), ids_of(1, 20), dict[str, Tensor](), []
    for start, end in [(0, 5), (5, 6), (6, 7), (7, 8), (8, 12), (12, 13), (13, 18), (18, 19), (19, 20)]:
        made = graph(input_ids=ids[:, start:end], attention_mask=torch.ones(1, end).long(), **past)
        past = dict(zip(past_of(graph), made.past_key_values, strict=True))
        found.append(made.logits)
    assert_sqnr(torch.cat(found, 1), transform(language_model(), Recipe(), "cuda")(input_ids=ids).logits, 100)
    assert graphs.reaches == [cached.REACH]


def test_two_threads_have_one_graph(graphs: Graphs) -> None:
    """Each has to make room again when it is its turn, and neither says what the other asked."""
    graph, found = model_of("fp"), dict[int, list[Tensor]]()
    want = [list(going_on(graph, ids_of(1, 12, seed), 4)) for seed in (1, 2)]
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: list(going_on(graph, ids_of(1, 12, seed), 4))}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        for have, expected in zip(found[seed], want[seed - 1], strict=True):
            assert_sqnr(have, expected, 100)


@pytest.mark.parametrize("precision", ["fp", "int"])
def test_a_copy_captures_its_own_steps(graphs: Graphs, precision: str) -> None:
    """In rooms of its own, in turns with the graph that it is of"""
    graph, ids = model_of(precision), ids_of(2, 12)
    want = list(going_on(graph, ids, 4))
    assert graphs.reaches == [cached.REACH]
    other = copy.deepcopy(graph)
    for have, same, expected in zip(going_on(graph, ids, 4), going_on(other, ids, 4), want, strict=True):
        assert_equal_bits(have, expected)
        assert_equal_bits(same, expected)
    assert graphs.reaches == [cached.REACH] * 3


@pytest.mark.parametrize("precision", ["bf16", "int"])
def test_generate(graphs: Graphs, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """Prompts of several lengths, of which some end early"""
    prompts = [ids_of(1, length, length)[0].tolist() for length in (9, 3, 5)]
    anew, graph = uncaptured(monkeypatch, precision, again=True), model_of(precision)
    ask = partial(generate, prompts=prompts, how=How(12, sample=True), pad=tiny.PAD)
    end = ask(anew, end=(), past=past_of(anew))[0].tokens[6:7]
    found, want = (ask(one, end=end, past=past_of(one)) for one in (graph, anew))
    assert found == want and found[0].ended and len({len(one.tokens) for one in found}) > 1
    assert len(graphs.reaches) > 1  # those that go on have rooms of their own


def test_what_reads_the_cache_in_its_own_way_is_not_captured(graphs: Graphs) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = bloom().eval()
    graph = transform(with_cache(model), Recipe("bf16"), "cuda")
    why = "past_key_0 is read by something else than attention of cuda's own"
    assert {"what": "steps", "why": why, "names": [type(model).__name__]} in report_of(graph).missed
    for have, want in zip(by_cache(graph), whole(transform(model, Recipe("bf16"), "cuda")), strict=True):
        assert_sqnr(have, want, DB["bf16"])
    assert len(by_cache(graph)) == NEW and graphs.reaches == []
