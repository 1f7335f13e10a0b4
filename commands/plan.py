"""`plan`: what the model would cost on an AMD NPU, by the cycle model; no NPU is needed."""

from dataclasses import replace
from pathlib import Path

import click

from benchmarks import arithmetic, inputs, plot
from benchmarks.files import named, require_places, write
from commands import plan_plot, plan_report
from commands.common import Options, print_json, print_wide, refuse
from commands.graph import prepare
from commands.models import is_quantized, load_float
from models import InputError, load
from models.tasks import ASK, TASKS


@click.command("plan")
@click.option("--task", default=ASK.name, show_default=True, type=click.Choice(list(TASKS)),
              help="What the model is for; a language model takes whole texts there.")  # fmt: skip
@click.option("--batch-size", default=1, show_default=True, type=click.IntRange(1))
@click.option("--sequence-length", default=384, show_default=True, type=click.IntRange(1), help="Tokens a row.")
@click.option("--shape", type=click.Choice(list(inputs.SHAPES)), help="A model of this size, not --model's.")
@click.option("--npu", metavar="xdna|xdna2|FILE", help="Whose linears are listed; FILE: a device of your own, YAML "
              "or JSON.  [default: what OPSWAP_AIE_DEVICE names, else xdna2]")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="Write PATH.json and PATH.png (a plot).")
@click.pass_obj
def command(options: Options, task: str, batch_size: int, sequence_length: int, shape: str | None,
            npu: str | None, output: Path | None) -> None:  # fmt: skip
    """Latency on an AMD NPU, predicted: every linear's tile, what bounds it, and what would make it faster."""
    if (options.target, options.precision) != ("aie", "int"):
        given = f"{options.target} and {options.precision}"
        raise click.UsageError(f"plan is for the NPU: give --target aie --precision int; got {given}")
    if shape:
        refuse(options.given, ("model",), "is not what --shape describes")
    if output and (why := plot.available()):
        raise InputError(why)
    places = named(output, "json", "png")
    require_places(*places)
    from targets.aie import devices, plan, settings

    chosen = devices.load(npu) if npu else settings.read().device
    what = TASKS[task]
    model, tokenizer = (inputs.random_model(shape, what), load()[1]) if shape else load_float(options.model, what)
    options = replace(options, model=shape) if shape else options
    batch = inputs.random_batch(model, batch_size, sequence_length)
    saved = not shape and is_quantized(options.model)
    # on a machine with an NPU too: what is counted are the linears, not the call of a session
    ready = prepare(options, None if saved else (model, tokenizer), what, native=False)
    work = plan.observe(ready.graph, batch, arithmetic.multiply_adds(model, batch).attention)
    if not work.calls:
        raise InputError(f"{options.model} has no linear in 8 bits: there is nothing for the NPU to do")
    others = [one for one in devices.BUILT_IN.values() if one.name != chosen.name]
    sizes = {"task": task, "batch_size": batch_size, "sequence_length": sequence_length}
    entries = [plan_report.entry(one, work, batch_size) for one in (chosen, *others)]
    old = plan_report.old() if shape == "bert-large" else None
    result = {**ready.header, **sizes, "devices": entries, "old_example": old, "model_error": plan_report.errors()}
    if places:
        plan_plot.draw(result, places[1])
        write(places[0], plan_report.as_text(result))
    if options.json:
        print_json(result)
        return
    print_wide(*plan_report.parts(result))
