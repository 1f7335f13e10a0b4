"""`sensitivity`: what each linear costs in accuracy in 8 bits, and a recipe that keeps the worst in float."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.files import in_place, named, require_places, write
from commands.common import GATE_MISSED, Options, err, finite, json_text, out, print_json, print_wide, progress_bar
from commands.graph import describe, read_data, require_target, use_threads
from commands.passes import shown
from commands.recipe import int_recipe, require_sense
from commands.sample import Sample, read_reference, spread
from commands.sensitivity_report import as_json, summary, table
from commands.texts import window_options
from models import InputError, load
from models.memory import keep_freed_memory
from models.question_answering.examples import read_examples
from models.texts import longest_row
from toolkit import Recipe, report_of
from toolkit.pipeline import captured
from toolkit.quantizers import NATIVE
from toolkit.recipe_file import dump
from toolkit.sensitivity import Found, Goal, LayerCost, Score, Variants, confirmed, measure_layers, page, plot, search
from toolkit.sensitivity.variants import KEEP_AS

WINDOWS = 32  # that the outputs are compared on
ENDINGS = ("yaml", "json", "png", "html")  # of what --output writes


@click.command("sensitivity")
@click.option("--data", required=True, help="SQuAD file, .gz or not; the questions taken are spread evenly over it.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Questions to try recipes on.")
@click.option("--each", default=64, show_default=True, type=click.IntRange(0),
              help="Questions that every single linear is tried on, of those; 0 for none.")  # fmt: skip
@click.option("--max-drop", default=0.1, show_default=True, callback=finite,
              help="F1 points under float that are accepted.")  # fmt: skip
@click.option("--min-equal", type=click.FloatRange(0, 100), callback=finite,
              help="Percent of the answers that must be float's.")  # fmt: skip
@click.option("--keep-as", default="bf16", show_default=True, type=click.Choice(tuple(KEEP_AS)),
              help="What a linear that is repaired becomes; int16: two terms of 8 bits for each number.")  # fmt: skip
@click.option("--reference", help="Float's answers, as eval --precision fp --predictions wrote them, to save time.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
@window_options
@click.option("--output", type=click.Path(path_type=Path),
              help="Write PATH.yaml (the recipe), PATH.json, PATH.png and PATH.html.")  # fmt: skip
@click.pass_obj
def command(options: Options, data: str, limit: int, each: int, max_drop: float, min_equal: float | None,
            keep_as: str, reference: str | None, batch_size: int, max_length: int | None,
            stride: int | None,
            output: Path | None) -> None:  # fmt: skip
    """What each linear costs in accuracy, and a recipe that keeps the fewest in float.

    Every linear that the recipe quantizes is measured by itself, on windows of text (SQNR of its own output and of
    the model's) and on questions (answers that change, F1). Then linears are kept in float, those first that do the
    most harm for their work, until --max-drop and --min-equal are reached, as measured on --limit questions. Exit code
    3 where that is not possible: the best that was found is written all the same.
    """
    if output and (why := plot.available()):
        raise InputError(why)
    require_places(*named(output, *ENDINGS))
    recipe = int_recipe(options)
    require_target(replace(options, precision="int"))
    require_sense(options, recipe)
    if recipe.quantizer != NATIVE:
        raise click.UsageError(
            f"sensitivity measures this project's own quantizer, not {recipe.quantizer}: leave it out"
        )
    use_threads(options)
    keep_freed_memory()
    examples = spread(read_examples(data), limit)
    given = read_reference(reference, examples) if reference else None
    model, tokenizer = load(options.model)
    sample = Sample.of(tokenizer, examples, batch_size, longest_row(tokenizer, model.config, max_length), stride)
    calibration = read_data(options, tokenizer, model.config)
    with shown(calibration) as passes:
        variants = Variants.of(captured(model, recipe.precision), recipe, options.target, keep_as, **passes)
    header = {"model": options.model, **report_of(variants.whole()).as_json()}
    err.print(describe(header))
    goal = Goal(max_drop, min_equal)
    with progress_bar() as bar:
        sample = float_answers(bar, sample, variants, given)
        costs, outputs, singles = layers(bar, sample, variants, each)
        found = repair(bar, sample, variants, costs, goal)
        if calibration is not None or recipe.rotate:  # what is kept was tried as smoothed and rotated
            found = confirm(bar, sample, variants, costs, found, goal)
    result = {**header, "data": Path(data).name, **as_json(sample, variants, costs, outputs, singles, found, goal)}
    repaired = variants.repaired(found.names)
    if output:
        save(result, repaired, output)
    print_json(result) if options.json else show(result)
    if not found.reached:
        err.print(f"opswap: the goal was not reached: {summary(result)[-1]}")
        raise click.exceptions.Exit(GATE_MISSED)


def float_answers(bar: Any, sample: Sample, variants: Variants, given: dict[str, str] | None) -> Sample:
    """→ the sample with the answers of the float graph, or those `given`"""
    if given is not None:
        return sample.against(given)
    task = bar.add_task("answers in float", total=None)
    return sample.against(
        sample.answers(variants.graph, lambda done, total: bar.update(task, completed=done, total=total))
    )


def layers(
    bar: Any, sample: Sample, variants: Variants, each: int
) -> tuple[list[LayerCost], tuple[float, float], dict[str, tuple[Score, Score]]]:
    """→ each linear's cost; the SQNR of the outputs with all in int and with none; and by name the scores on `each`
    questions with it alone in int, and with it alone not"""
    task = bar.add_task("linears, outputs", total=len(variants.names))
    costs, *outputs = measure_layers(
        variants, sample.batches(WINDOWS), lambda done, total: bar.update(task, completed=done)
    )
    singles = {}
    if each:
        few = sample.first(each)
        task = bar.add_task("linears, answers", total=len(variants.names))
        for name in variants.names:
            singles[name] = few.score(variants.alone(name)), few.score(variants.without([name]))
            bar.advance(task)
    return costs, (outputs[0], outputs[1]), singles


def repair(bar: Any, sample: Sample, variants: Variants, costs: list[LayerCost], goal: Goal) -> Found:
    """→ the linears to keep, by what is measured on the whole sample"""
    task = bar.add_task("recipes", total=None)

    def evaluate(names: Collection[str]) -> Score:
        score = sample.score(variants.without(names))
        bar.advance(task)
        err.print(
            f"{len(names):3} kept in {variants.keep_as}: F1 {score.f1:.3f}, drop {score.drop:+.3f}, "
            f"{score.equal:.2f}% of the answers equal"
        )
        return score

    return search({c.name: c.share for c in costs}, {c.name: c.noise for c in costs}, evaluate, goal)


def confirm(bar: Any, sample: Sample, variants: Variants, costs: list[LayerCost], found: Found, goal: Goal) -> Found:
    """→ the same by what recipes give that are calibrated by themselves, as whoever uses one has it"""
    task = bar.add_task("recipes by themselves", total=None)

    def evaluate(names: Collection[str]) -> Score:
        score = sample.score(variants.applied(names))
        bar.advance(task)
        err.print(f"{len(names):3} kept, by its recipe: F1 {score.f1:.3f}, drop {score.drop:+.3f}, "
                  f"{score.equal:.2f}% of the answers equal")  # fmt: skip
        return score

    return confirmed(found, {c.name: c.share for c in costs}, evaluate, goal)


def save(result: dict[str, Any], recipe: Recipe, output: Path) -> None:
    """Recipe, JSON, picture and page beside each other."""
    lines = summary(result)
    text, picture = dump(recipe, lines), plot.draw(result)
    as_yaml, as_text, drawn, as_page = named(output, *ENDINGS)
    write(as_yaml, text)
    write(as_text, json_text(result) + "\n")
    in_place(drawn, lambda beside: beside.write_bytes(picture))
    write(as_page, page.page(result, lines, text, picture))


def show(result: dict[str, Any]) -> None:
    """The table, and what was found."""
    print_wide(table(result))
    for line in summary(result):
        out.print(line)
