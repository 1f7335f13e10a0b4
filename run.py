"""OpSwap's command line: parse, call, print."""

import os
import sys


def not_installed(missing: ModuleNotFoundError) -> str:
    """→ what is said to who types `python run.py`, where that is the system's Python"""
    package = str(missing.name).partition(".")[0]
    return f"opswap: {sys.executable} has no package {package}: `make run` sets up .venv, whose bin/python has it"


try:
    import click

    from commands.common import (
        FAILED,
        Options,
        finite,
        require_folder,
        require_said,
        require_streams,
        require_utf8,
        written,
    )
    from commands.failures import exit_code, is_output, known_before, words_of
    from commands.group import LazyGroup, settle_threads
except ModuleNotFoundError as missing:
    sys.exit(not_installed(missing))

NEEDED = ("torch", "transformers", "safetensors", "tokenizers", "numpy", "huggingface_hub", "prompt_toolkit", "yaml")
MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))  # more only wait for each other, and use up the memory
PLACED = (None, "ask", "classify", "encode", "eval", "generate", "tag")  # the commands that --device is for


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"show_default": True})
@click.option("--target", default="cpu", help="cpu, customcpu, aie, cuda or hpu; `doctor` says what each can do here.")
@click.option("--precision", default="fp", help="fp (float32), bf16, fp16, int or fp8; each target names those it has.")
@click.option(
    "--scheme",
    default="dynamic",
    help="How activations are quantized: dynamic, a scale for each token, static, or weight: weights alone are.",
)
@click.option(
    "--calibration",
    metavar="FILE",
    help="Data to calibrate with: a SQuAD file (.json, .jsonl), or text, one passage a line; .gz too. Static needs it, "
    "dynamic loses less with it.",
)
@click.option(
    "--samples", default=128, type=click.IntRange(1), help="Questions or passages of --calibration, drawn at random."
)
@click.option("--ranges", default=None, help="For static: minmax, percentile, mse or entropy.  [default: percentile]")
@click.option(
    "--percentile", type=float, callback=finite, help="For --ranges percentile: 99.9 to 99.9999.  [default: 99.999]"
)
@click.option(
    "--rotate",
    is_flag=True,
    help="Rotate what is rounded, by blocks of channels: nearer to float; on customcpu 1 to 5% slower.",
)
@click.option("--model", default="minilm-squad", help="A folder, a Hugging Face name, or the embedded minilm-squad.")
@click.option(
    "--without", multiple=True, metavar="NAME", help="Leave out one fusion of the graph, by name; repeatable."
)
@click.option(
    "--recipe", metavar="FILE", help="What is in 8 bits, and how: YAML, as `sensitivity` writes it. Options given win."
)
@click.option(
    "--quantizer", default="native", help="Who quantizes: native, inc (Neural Compressor) or torchao, if installed."
)
@click.option(
    "--autotune", metavar="FILE", help="With --quantizer inc: it tries its settings, judged by F1 on this SQuAD file."
)
@click.option(
    "--device", metavar="NAME", help="Where --target cpu computes: cuda (ROCm too), xpu, mps.  [default: cpu]"
)
@click.option("--strict", is_flag=True, help="Fail (exit code 4) rather than emulate or fall back.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS),
              help="CPU threads.  [default: PyTorch's own choice]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else.")
@click.pass_context
def main(
    context: click.Context,
    target: str,
    precision: str,
    scheme: str,
    calibration: str | None,
    samples: int,
    ranges: str | None,
    percentile: float | None,
    rotate: bool,
    model: str,
    without: tuple[str, ...],
    recipe: str | None,
    quantizer: str,
    autotune: str | None,
    device: str | None,
    strict: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Transformers in 8 bits: quantize as an FX graph, swap the linear layers for a target's operators.

    Without a COMMAND it asks and answers questions; without a terminal too, the built-in ones.
    """
    context.obj = Options(
        target, precision, scheme, model, strict, threads, as_json, without, recipe, written(context), calibration,
        samples, ranges, percentile, quantizer, autotune, device, rotate,
    )  # fmt: skip
    if device and context.invoked_subcommand not in PLACED:
        raise click.UsageError(
            f"{context.invoked_subcommand} does not take --device: leave it out (validate: --pair cpu@DEVICE:PRECISION)"
        )
    if context.invoked_subcommand is None:
        settle_threads(context.params, beside_peers=False)
        from commands.ask import command, demonstrate

        context.invoke(command if sys.stdin.isatty() else demonstrate)


def entry() -> None:
    """Runs the command line; every known error is one line on standard error and its exit code."""
    try:
        require_streams()
        require_folder()
        require_utf8(sys.argv[1:])
        require_said(sys.argv[1:])
        sys.exit(main(standalone_mode=False) or 0)
    except click.ClickException as error:
        known_before(error).show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_say("stopped", 130))
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        _drop_output()
        sys.exit(FAILED)
    except ModuleNotFoundError as missing:
        if not str(missing.name).startswith(NEEDED):
            raise
        sys.exit(not_installed(missing))
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        if is_output(error):  # else what waits to be written is tried again at the end, and fails again
            _drop_output()
        code = exit_code(error)
        if code is None or os.environ.get("OPSWAP_TRACEBACK"):
            raise
        sys.exit(_say(words_of(error), code))


def _drop_output() -> None:
    """What is written to standard output from here on is lost."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str, code: int) -> int:
    click.echo(f"opswap: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":
    entry()
