"""The commands: what each is for, and their files, imported when asked for; threads are settled before that."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import click

COMMANDS = {
    "ask": "Answer questions on a passage, interactively or one-shot.",
    "bench": "Latency and throughput: median, p95, p99, share of the machine's peak; other engines beside it.",
    "calibrate": "Find how the model is best rounded to 8 bits, and leave that in its folder, for --precision int.",
    "classify": "Labels of texts or pairs of texts: sequence classification.",
    "doctor": "What each target can do on this machine, and why.",
    "encode": "Hidden states of texts, and how many tokens a second.",
    "eval": "SQuAD v1.1 and v2.0: exact match and F1 as the official scripts compute them.",
    "export": "Write the model as ONNX (float, or INT8 with Q/DQ) or pt2, and check the file in ONNX Runtime.",
    "finetune": "Fine-tune an encoder on SQuAD; runs under torchrun on many processes.",
    "generate": "Text that a language model goes on with, greedy or drawn.",
    "plan": "What a model would cost on an AMD NPU: tiles, latency by part, and what would make it faster.",
    "quantize": "Save the model in 8 bits as a folder that --model takes, and that transformers and vLLM load.",
    "tag": "Labelled pieces of texts: token classification.",
    "validate": "The same inputs on several targets: SQNR, cosine, equal answers, latency and memory; PASS or FAIL.",
    "sensitivity": "What each linear costs in accuracy in 8 bits, and a recipe that keeps the worst ones in float.",
}
SPINS = 1000  # looks of an idle thread of OpenMP's at its work, a few microseconds, before it sleeps


class LazyGroup(click.Group):
    """Imports a command's file when it is used, so that `--help` needs neither torch nor transformers."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"commands.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        settle_threads(ctx.params, beside_peers=any(argument.startswith("--peer") for argument in args))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def settle_threads(options: Mapping[str, Any], beside_peers: bool) -> None:
    """Tells PyTorch's thread pool what it reads once, when torch is imported: how many threads, and not to keep a core
    for milliseconds after each of its operators, where a target's own threads wait for it. Not beside the peers of
    `bench`: they run in that pool at their best."""
    if options.get("threads"):
        os.environ["OMP_NUM_THREADS"] = str(options["threads"])
    if options.get("target", "cpu") != "cpu" and not beside_peers and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
