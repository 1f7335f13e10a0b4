"""`quantize`: the model in 8 bits as a folder."""

import time
from dataclasses import replace
from pathlib import Path

import click

from commands.common import Options, err, out, print_json, progress_bar
from commands.graph import recipe_of, use_threads
from models import InputError, load
from models.calibration import read_calibration
from operators.build import cache_folder
from toolkit import checkpoint
from toolkit.calibrate import require_data
from toolkit.pipeline import quantized


@click.command("quantize")
@click.option("--output", required=True, type=click.Path(path_type=Path),
              help="Folder to write; an earlier checkpoint there is replaced, in one step.")  # fmt: skip
@click.pass_obj
def command(options: Options, output: Path) -> None:
    """Save the model in 8 bits: int8 weights and scales, in the layout of compressed-tensors (int-quantized).

    Every command loads the folder with --model, on every target, without the float weights.
    """
    if "precision" in options.given and options.precision != "int":
        raise click.UsageError(f"quantize saves --precision int, not {options.precision}: leave --precision out")
    recipe = recipe_of(replace(options, precision="int"))
    require_data(recipe, options.calibration)
    checkpoint.require_free(output)
    use_threads(options)
    begun = time.perf_counter()
    model, tokenizer = load(options.model)
    data = read_calibration(options.calibration, tokenizer, options.samples) if options.calibration else None
    with progress_bar() as bar:
        task = bar.add_task("calibrating", total=len(data) if data else None, visible=recipe.is_static())
        graph = quantized(model, recipe, data, cache_folder(), lambda done: bar.update(task, completed=done))
    try:
        saved = checkpoint.save(graph, model, recipe, output, tokenizer.save_pretrained)
    except OSError as error:
        raise InputError(f"{output} can't be written ({error.strerror or error}): give another folder") from error
    if saved.portable:
        err.print(f"only OpSwap can read {output}: {saved.portable}")
    result = {
        "model": options.model,
        "output": str(output),
        "scheme": recipe.scheme,
        "layers": saved.layers,
        "kept": len(graph.meta.get("opswap_kept", {})),
        "bytes": saved.bytes,
        "only_opswap": saved.portable,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    print_json(result) if options.json else out.print(
        f"{output}: {saved.layers} layers in 8 bits, {result['kept']} kept in float, {saved.bytes / 1e6:.1f} MB, "
        f"{result['seconds']:.1f} s"
    )
