"""Makes the table of tiles for the GPU of this machine: `python -m benchmarks.tune_cuda`, minutes, writes tiles.json.

For each product of a BERT and each number of tokens, every candidate is checked (its integers must be exact) and timed
in a CUDA graph; the fastest is noted, PyTorch's own kernel among them. Other shapes keep the entries for all shapes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.files import require_places, write
from benchmarks.one_line import OneLine

HIDDEN = (384, 768, 1024)  # MiniLM, BERT-base, BERT-large
TOKENS = (32, 64, 128, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 12_288)
CHECKED = 64  # rows on which a candidate's result is compared with the reference's

# milliseconds of a candidate at m, n, k; None where it does not run there or its result is wrong
Measure = Callable[[str, int, int, int, Any], float | None]


def shapes(hidden: Iterable[int] = HIDDEN) -> list[tuple[int, int]]:
    """→ n, k of a layer's products: query with key and value, attention's output, up and down"""
    return [pair for h in hidden for pair in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))]


def candidates(kind: str) -> list[Any]:
    """→ the tiles that are tried, the library's kernel first"""
    from operators.triton.tiles import LIBRARY, Tile

    found = [Tile(kernel=LIBRARY)]
    for m, n, k in product((32, 64, 128), (64, 128, 256), (64, 128)):
        for stages, split in product((3, 4), (1, 2, 4) if kind == "int8" else (1,)):
            if (m + n) * k * stages <= 224 * 1024 and m * n <= 128 * 256:
                found.append(Tile(m, n, k, 8 if m * n >= 128 * 128 else 4, stages, 8, split))
    return found


def best(kind: str, n: int, k: int, tiles: Sequence[Any], measure: Measure, tokens: Sequence[int]) -> list[Any]:
    """→ entries of the table for this n and k: neighbours with the same tile are one, the last has no end"""
    from operators.triton.tiles import as_entry

    chosen = []
    for m in tokens:
        times = [(time, number) for number, tile in enumerate(tiles) if (time := measure(kind, m, n, k, tile))]
        if times:
            chosen.append((m, tiles[min(times)[1]]))
    entries = [as_entry(tile, up_to=list(group)[-1][0], n=n, k=k) for tile, group in groupby(chosen, lambda c: c[1])]
    if entries:
        del entries[-1]["up_to"]
    return entries


def merged(table: dict[str, Any], chip: str, found: dict[str, list[Any]], tuned: str) -> dict[str, Any]:
    """→ the table with `found` before the chip's entries for all shapes, those of an older chip if it has none"""
    from operators.triton.tiles import nearest

    base = table["chips"].get(chip) or table["chips"][nearest(chip)]
    lists = {kind: found.get(kind, []) + [one for one in base[kind] if "n" not in one] for kind in ("int8", "fp8")}
    return {**table, "chips": {**table["chips"], chip: {"tuned": tuned, **lists}}}


def measured(kind: str, m: int, n: int, k: int, tile: Any) -> float | None:
    """Measure on this machine's GPU: with what the library leaves to do, and what parts of K do, in the time"""
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench_cudagraph

    from benchmarks.tune_cuda_work import work

    call = work(kind, m, n, k, tile)
    if call is None:
        return None
    try:
        run, correct = call
        return do_bench_cudagraph(run, rep=20, return_mode="median") if correct(CHECKED) else None
    except (OutOfResources, CompilationError, RuntimeError) as error:
        click.echo(f"{kind} {m}x{n}x{k} {tile}: {str(error).splitlines()[0]}", err=True)
        return None


@click.command(cls=OneLine)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write.  [default: the table in use]")
@click.option("--quick", is_flag=True, help="BERT-large at 384 tokens alone.")
def main(output: Path | None, quick: bool) -> None:
    """Measures the tiles of the matrix kernels on this machine's GPU and writes the table."""
    if not torch.cuda.is_available():
        raise click.ClickException("torch.cuda.is_available() is False; tiles are measured on a GPU")
    from operators.triton import tiles

    place = output or tiles.TABLE
    require_places(place)
    kinds = ("int8", "fp8") if torch.cuda.get_device_capability() >= (8, 9) else ("int8",)
    found: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for kind in kinds:
        for n, k in shapes((1024,) if quick else HIDDEN):
            found[kind] += best(kind, n, k, candidates(kind), measured, (384,) if quick else TOKENS)
            click.echo(f"{kind} {n}x{k}: {json.dumps(found[kind][-1]) if found[kind] else 'nothing ran'}")
    name = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    write(place, as_text(merged(tiles.table(), tiles.chip(), found, name)))


def as_text(table: dict[str, Any]) -> str:
    """The table as JSON, an entry a line"""
    text = json.dumps({**table, "chips": {}}, indent=2).replace('"chips": {}\n}', '"chips": {\n')
    chips = []
    for name, chip in table["chips"].items():
        lists = [
            f'      "{kind}": [\n' + ",\n".join(f"        {json.dumps(entry)}" for entry in chip[kind]) + "\n      ]"
            for kind in ("int8", "fp8")
        ]
        chips.append(f'    "{name}": {{\n      "tuned": {json.dumps(chip["tuned"])},\n' + ",\n".join(lists) + "\n    }")
    return text + ",\n".join(chips) + "\n  }\n}\n"


if __name__ == "__main__":
    main()
