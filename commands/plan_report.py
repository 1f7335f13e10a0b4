"""What `plan` predicted, as JSON and as tables."""

from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import Any

from rich.table import Table

from commands.common import json_text
from targets.aie import devices, measured, old_example, plan
from targets.aie.cycles import Cost
from targets.aie.devices import Device
from targets.aie.mapper import chunk_of, l1_bytes

BATCHES = (8, 32)  # of what would be if there were more to do at once
PARTS = ("compute", "memory", "dispatch", "reconfiguration", "host")


def entry(device: Device, work: plan.Work, batch: int) -> dict[str, Any]:
    """→ "latency_ms" of a call with `batch` sequences, where it goes, every linear, and what other ways would take a
    sequence"""
    found = plan.predict(device, work)
    tile = found.costs[0].tile
    return {
        "name": device.name,
        "title": device.title,
        "latency_ms": _ms(found.seconds),
        "samples_per_second": round(batch / found.seconds, 2),
        "array_tops": round(found.tops, 2),
        "parts_ms": {name: _ms(seconds) for name, seconds in found.parts().items()},
        "dispatches": len(found.costs),
        "tile": [tile.m, tile.k, tile.n],
        "linears": [_linear(device, call.name, cost) for call, cost in zip(work.calls, found.costs, strict=True)],
        "what_if_ms_a_sample": {
            name: _ms(seconds / batch) for name, seconds in plan.what_if(device, work, BATCHES).items()
        },
        "parameters": devices.as_json(device),
    }


def _linear(device: Device, name: str, cost: Cost) -> dict[str, Any]:
    gemm, tile = cost.gemm, cost.tile
    return {
        "name": name,
        "gemm": [gemm.m, gemm.k, gemm.n],
        "out": gemm.out,
        "tile": [tile.m, tile.k, tile.n],
        "padded": list(cost.padded),
        "waste": round(cost.waste, 4),
        "bound": cost.bound,
        "l1_bytes": l1_bytes(tile, gemm.out, gemm.dtype),
        "l2_chunk": chunk_of(device, tile, gemm.k, gemm.out, gemm.dtype),
        "read_bytes": cost.read,
        "written_bytes": cost.written,
        "compute_us": _us(cost.compute),
        "memory_us": _us(cost.memory),
        "array_us": _us(cost.array),
        "latency_us": _us(cost.seconds),
        "array_tops": round(2 * gemm.macs / cost.array / 1e12, 2),
        "tops": round(cost.tops, 2),
    }


def old() -> dict[str, Any]:
    """→ AMD's old BERT-large example by the same model, beside its measured seconds"""
    found = old_example.old_example()
    return {
        "measured_seconds": list(old_example.MEASURED),
        "predicted_seconds": round(found.seconds, 3),
        "launches": found.launches,
        "dispatch_seconds": round(found.dispatch, 3),
        "array_seconds": round(found.array, 3),
        "waste": round(found.waste, 3),
    }


def errors() -> dict[str, Any]:
    """→ how far the model is from the points that were measured on the hardware, in percent"""
    found = [abs(measured.error(devices.BUILT_IN[point.device], point)) for point in measured.POINTS]
    return {
        "points": len(found),
        "mean": round(100 * sum(found) / len(found), 1),
        "largest": round(100 * max(found), 1),
    }


def as_text(result: dict[str, Any]) -> str:
    return json_text(result) + "\n"


def parts(result: dict[str, Any]) -> Iterator[Table | str]:
    """→ what is printed: the linears of the chosen device, then all devices, then what would be faster"""
    chosen = result["devices"][0]
    sizes = f"batch {result['batch_size']}, {result['sequence_length']} tokens"
    yield f"{result['model']}, {sizes}, on {chosen['title']}: {chosen['latency_ms']:.1f} ms, predicted"
    yield ""
    yield linears(chosen)
    yield ""
    yield by_device(result["devices"])
    yield ""
    yield what_if(result["devices"])
    yield ""
    yield from notes(result)


def linears(entry: dict[str, Any]) -> Table:
    """→ a row for each kind of linear: those that differ by the number of their layer only"""
    begin = shared_beginning(plan.kind(one["name"]) for one in entry["linears"])
    times = ("compute µs", "memory µs", "array µs", "with dispatch µs")
    table = _table(begin.strip("."), "calls", "M×K×N", "tile", "padding", "bound by", *times, "array TOPS")
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in entry["linears"]:
        found.setdefault((plan.kind(one["name"]), str(one["gemm"])), []).append(one)
    for (name, _), same in found.items():
        one = same[0]
        what = (_by(one["gemm"]), _by(one["tile"]), f"{one['waste']:.0%}", one["bound"])
        took = [f"{one[f'{part}_us']:.0f}" for part in ("compute", "memory", "array", "latency")]
        table.add_row(name.removeprefix(begin), str(len(same)), *what, *took, f"{one['array_tops']:.1f}")
    return table


def shared_beginning(names: Iterable[str]) -> str:
    """→ what all names begin with, up to a dot"""
    return commonprefix(list(names)).rpartition(".")[0] + "."


def by_device(entries: list[dict[str, Any]]) -> Table:
    """→ milliseconds of a call, and where they go"""
    table = _table("device", "ms", *PARTS, "samples/s", "array TOPS")
    for one in entries:
        times = [f"{one['parts_ms'][name]:.1f}" for name in PARTS]
        rates = (f"{one['samples_per_second']:.1f}", f"{one['array_tops']:.1f}")
        table.add_row(one["title"], f"{one['latency_ms']:.1f}", *times, *rates)
    return table


def what_if(entries: list[dict[str, Any]]) -> Table:
    """→ milliseconds a sequence, by what would be done differently"""
    table = _table("ms a sample", *[one["name"] for one in entries])
    for name in entries[0]["what_if_ms_a_sample"]:
        table.add_row(name, *[f"{one['what_if_ms_a_sample'][name]:.1f}" for one in entries])
    return table


def notes(result: dict[str, Any]) -> Iterator[str]:
    error, parameters = result["model_error"], result["devices"][0]["parameters"]
    yield (
        f"The model is {error['mean']}% off the {error['points']} measured points on average, {error['largest']}% at "
        "most. Memory is time beyond computing; the host's time is an assumption: "
        f"{parameters['host_elements'] / 1e9:.1f}·10⁹ elements and {parameters['host_macs'] / 1e9:.0f}·10⁹ "
        "multiply-adds of attention a second."
    )
    old = result["old_example"]
    if old:
        least, most = old["measured_seconds"]
        xdna = next(one for one in result["devices"] if one["name"] == "xdna")
        yield (
            f"AMD's old example took {least} to {most} s a question on XDNA. By this model its {old['launches']} "
            f"launches (12 a kernel of 2048×2048, to which each layer was padded, {old['waste']:.1f} times the work) "
            f"cost {old['dispatch_seconds']:.2f} s of dispatch and {old['array_seconds']:.2f} s on the array, mostly "
            f"fetching the weights 12 times; what is left was the host's: padding, copies, sums over K. Here it is "
            f"{xdna['dispatches']} launches, nothing is padded to 2048, and K is summed on the array: "
            f"{xdna['latency_ms'] / 1000:.3f} s."
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _by(sizes: list[int]) -> str:
    return "×".join(str(size) for size in sizes)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 2)
