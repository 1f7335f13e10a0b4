"""The peak's list and what its functions say they did; how fast they are is no test."""

import pytest

from operators import kernels, peak

kernels.load()
# multiply-adds of one instruction (of AVX2's pair, for int8)
LOOP = {
    ("int8", "amx"): 16 * 16 * 64,
    ("int8", "avx512vnni"): 64,
    ("int8", "avxvnni"): 32,
    ("int8", "avx2"): 16,
    ("bf16", "avx512bf16"): 32,
    ("fp32", "avx512f"): 16,
    ("fp32", "avx2"): 8,
}
HERE = [index for index, (_, _, runs_here) in enumerate(peak.listed()) if runs_here]


def test_the_list_is_the_one_that_was_built() -> None:
    assert {(kind, isa) for kind, isa, _ in peak.listed()} <= set(LOOP)
    assert HERE, "none of csrc/peak.inc runs on this CPU"


@pytest.mark.parametrize("index", HERE, ids=lambda index: "-".join(peak.listed()[index][:2]))
def test_a_run_tells_its_multiply_adds(index: int) -> None:
    kind, isa, _ = peak.listed()[index]
    assert peak.run(index, 0) == 0
    assert peak.run(index, 3) == 3 * 12 * 8 * LOOP[kind, isa]


@pytest.mark.parametrize("index", [-1, 1000])
def test_what_is_not_in_the_list_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="wants an entry that runs here"):
        peak.run(index, 1)


def test_the_best_of_each_type_is_measured() -> None:
    found = peak.measure(threads=2, tries=1)
    first = {}
    for kind, isa, runs_here in peak.listed():
        if runs_here:
            first.setdefault(kind, isa)
    assert {kind: one.isa for kind, one in found.items()} == first
    assert all(one.tops > 0 and one.threads == 2 for one in found.values())


def test_without_compiled_kernels_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = kernels.KernelStatus(False, "reference", (), "OPSWAP_ISA=reference")
    monkeypatch.setattr(kernels, "library", lambda: None)
    monkeypatch.setattr(kernels, "status", lambda: missing)
    peak._library.cache_clear()
    with pytest.raises(peak.PeakError, match="OPSWAP_ISA=reference"):
        peak.measure(threads=1)
    peak._library.cache_clear()
