"""The command ``tritium``, also ``python -m tritium``.

``tritium probe`` ends with exit code 0, with 2 and one line on stderr for input that it refuses, and with 130 when it
is interrupted.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tritium.probe.head import Recipe
    from tritium.probe.workflow import Settings

REFUSED, INTERRUPTED = 2, 130
NEEDS_DATA = ("arch", "weights", "image_size", "resize", "num_classes", "val_split", "augment", "skip_bad")

DESCRIPTION = """Linear probing: a new last layer on the features of a frozen, pre-trained backbone."""
EPILOG = """\
DATA is a folder of images: DATA/train/CLASS/IMAGE and DATA/val/CLASS/IMAGE, or DATA/CLASS/IMAGE, of which a part is
kept for validation; or MNIST's IDX files, or CIFAR-10's Python files. Without DATA, the digits and the small backbone
that come with the package are used.

--weights takes the path of a checkpoint (.pth, .pt, .safetensors), the name of published weights (IMAGENET1K_V1,
DEFAULT), or "none". Published weights are looked up in hub/checkpoints under $TRITIUM_HOME or $TORCH_HOME, and
downloaded when they are not there.

  tritium probe
  tritium probe DATA --arch resnet18 --weights resnet18.pth --epochs 20 --lr 0.1 --out runs/a
"""


class Parser(argparse.ArgumentParser):
    """One that complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(REFUSED, f"{self.prog}: {message}\n")


def number(kind: Callable[[str], Any], fits: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    """A type for argparse: a number of this kind in a range."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


def parser() -> Parser:
    """The arguments of the command."""
    top = Parser(prog="tritium", description="A deep-learning framework: commands.")
    top.add_argument("--version", action="version", version=f"tritium {_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    probe = commands.add_parser("probe", help="train a last layer on the features of a frozen backbone",
                                description=DESCRIPTION, epilog=EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    count = number(int, lambda n: n >= 1, "a whole number from 1")
    positive = number(float, lambda x: 0 < x < float("inf"), "a positive number")
    not_negative = number(float, lambda x: 0 <= x < float("inf"), "a number from 0")
    part = number(float, lambda x: 0 < x < 1, "a number between 0 and 1")
    seed = number(int, lambda n: 0 <= n < 1 << 32, "a whole number from 0 to 4294967295")

    probe.add_argument("data", nargs="?", metavar="DATA",
                       help="a folder of images (default: the digits of the package)")
    model = probe.add_argument_group("backbone")
    model.add_argument("--arch", help="resnet18, resnet34, resnet50, resnet101, resnet152, mobilenet_v2 (default: "
                                      "resnet18)")
    model.add_argument("--weights", help="a path, a name, or none (default: IMAGENET1K_V1)")
    model.add_argument("--image-size", type=count, metavar="N", help="side of the square in the middle that is used "
                                                                     "(default: that of the weights, 224)")
    model.add_argument("--resize", type=count, metavar="N", help="shorter side before that (default: 8/7 of it)")
    images = probe.add_argument_group("images")
    images.add_argument("--num-classes", type=number(int, lambda n: n >= 2, "a whole number from 2"), metavar="N",
                        help="how many classes DATA has to have")
    images.add_argument("--val-split", type=part, metavar="X",
                        help="the part kept for validation, where DATA has no such folder (default: 0.2)")
    images.add_argument("--skip-bad", action="store_true",
                        help="leave images out that can not be read, and count them")
    head = probe.add_argument_group("training")
    head.add_argument("--epochs", type=count, metavar="N", help="default: 20, of the digits 30")
    head.add_argument("--lr", type=positive, metavar="X", help="learning rate (default: 0.1)")
    head.add_argument("--momentum", type=number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1"), metavar="X",
                      help="default: 0.9")
    head.add_argument("--weight-decay", type=not_negative, metavar="X", help="default: 0")
    head.add_argument("--optimizer", choices=("sgd", "lars"), help="default: sgd")
    head.add_argument("--schedule", choices=("cosine", "step", "none"), help="of the learning rate (default: cosine)")
    head.add_argument("--warmup", type=number(int, lambda n: n >= 0, "a whole number from 0"), metavar="N",
                      help="epochs in which the learning rate rises (default: 0)")
    head.add_argument("--batch-size", type=count, metavar="N", help="default: 256, of the digits 64")
    head.add_argument("--seed", type=seed, metavar="N", help="default: 0; equal seeds give equal bits")
    head.add_argument("--augment", action="store_true", help="random crops and flips of the training images; with "
                                                             "--no-cache")
    work = probe.add_argument_group("running")
    work.add_argument("--feature-batch-size", type=count, default=64, metavar="N",
                      help="images that go through the backbone at once (default: 64)")
    work.add_argument("--device", default="cpu", help="default: cpu")
    work.add_argument("--out", metavar="FOLDER", help="write metrics, head, report and checkpoint here")
    work.add_argument("--resume", action="store_true", help="continue the run in --out")
    work.add_argument("--cache-dir", metavar="FOLDER", help="where features are kept (default: $TRITIUM_HOME/features)")
    work.add_argument("--no-cache", action="store_true", help="compute the features anew in every epoch")
    work.add_argument("--quiet", action="store_true", help="print the accuracy only")
    work.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    code = commands.add_parser("kernels", help="what the machine code of the kernels looks like",
                               description="Compile every kernel, without a GPU, and read its machine code.")
    code.add_argument("--target", nargs="+", choices=("sm_80", "sm_90", "gfx942"), metavar="NAME",
                      default=["sm_80", "sm_90", "gfx942"], help="default: sm_80 sm_90 gfx942")
    code.add_argument("--family", nargs="+", default=[], metavar="NAME", help="only kernels of these families")
    code.add_argument("--json", metavar="FILE", help="write all figures here")
    what = code.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only compare with the table of the package; exit code 1 "
                                                           "where code got worse or breaks a rule")
    what.add_argument("--update", action="store_true", help="put the figures into the table of the package")
    _tune(commands, count, positive)
    return top


TUNE = """\
Search, on this GPU, for configurations of kernels that are faster than those that the heuristics choose, and write them
into a table that later programs read. Nothing searches by itself. Every candidate's results are compared with those of
the heuristics' choice, and it is taken only if it is faster by more than 2 %."""
TUNE_EPILOG = """\
The table is $TRITIUM_CACHE_DIR/tuned/GPU.json or ~/.cache/tritium/tuned/GPU.json; what is found is added to it. With
TRITON_INTERPRET=1 candidates run on the emulated device, their times mean nothing, and only --output is written.

  tritium tune --shapes resnet50 --batch 64 256 --seconds 600
  tritium tune --family matmul --shapes square 4096,11008,4096 --dtype bf16 fp16
  tritium tune --shapes 32,256,56,56,64,1,1,0,1 --dry-run --verbose
"""


def _tune(commands: Any, count: Callable[[str], int], positive: Callable[[str], float]) -> None:
    """The arguments of ``tritium tune``."""
    from tritium.kernels.tuning.problems import DTYPES, OPS

    tune = commands.add_parser("tune", help="find faster configurations of kernels for this GPU", description=TUNE,
                               epilog=TUNE_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = tune.add_argument_group("what is tuned")
    what.add_argument("--family", nargs="+", choices=tuple(OPS), metavar="NAME", default=["matmul", "conv"],
                      help=f"of {', '.join(OPS)} (default: matmul conv)")
    what.add_argument("--shapes", nargs="+", default=[], metavar="SHAPES",
                      help="resnet18, resnet50, mobilenet_v2, square, attention; M,N,K of a product; N,C,H,W,O,kernel,"
                           "stride,padding,groups of a convolution; a file with such lines (default: resnet50 square)")
    what.add_argument("--batch", nargs="+", type=count, default=[64], metavar="N",
                      help="images at once, of networks (default: 64)")
    what.add_argument("--dtype", nargs="+", choices=DTYPES, metavar="NAME", default=["bf16"],
                      help=f"of {', '.join(DTYPES)} (default: bf16)")
    what.add_argument("--op", nargs="+", choices=sorted({op for ops in OPS.values() for op in ops}), default=[],
                      metavar="NAME", help="nn, nt, tn of products; forward, fused, residual, dgrad, wgrad of "
                                           "convolutions; forward, backward of attention (default: all)")
    how = tune.add_argument_group("how")
    how.add_argument("--seconds", type=positive, metavar="X", help="stop after this time (default: when all is done)")
    how.add_argument("--candidates", type=count, metavar="N", help="at most so many for a question (default: 24)")
    how.add_argument("--jobs", type=count, metavar="N", help="processes that compile (default: one for each processor)")
    how.add_argument("--dry-run", action="store_true", help="list what would be tried; needs no GPU")
    out = tune.add_argument_group("output")
    where = out.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help="write this table instead")
    where.add_argument("--write-package", action="store_true", help="write the table that comes with the package")
    out.add_argument("--json", metavar="FILE", help="write all outcomes here")
    said = out.add_mutually_exclusive_group()
    said.add_argument("--quiet", action="store_true", help="print nothing but errors")
    said.add_argument("--verbose", action="store_true", help="with --dry-run: list the candidates")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of the process); returns the exit code."""
    options = parser().parse_args(arguments)
    from tritium.probe.errors import ProbeError

    try:
        if options.command == "kernels":
            return kernels(options)
        if options.command == "tune":
            return tune(options)
        return probe(options)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ProbeError, OSError) as error:
        print(f"tritium probe: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        out = getattr(options, "out", None)
        where = f"; continue with --resume --out {out}" if out else ""
        print(f"tritium {options.command}: interrupted{where}", file=sys.stderr)
        return INTERRUPTED


def kernels(options: argparse.Namespace) -> int:
    """``tritium kernels``."""
    try:
        from tritium.kernels import report

        return report.run(options.target, options.family, options.json, options.check, options.update)
    except (ImportError, RuntimeError, ValueError) as error:
        print(f"tritium kernels: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED


def tune(options: argparse.Namespace) -> int:
    """``tritium tune``."""
    try:
        from tritium.kernels.tuning import command

        return command.run(options)
    except (ImportError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        print(f"tritium tune: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED


def probe(options: argparse.Namespace) -> int:
    """``tritium probe``. Raises ProbeError for what it refuses."""
    from contextlib import redirect_stdout

    from tritium.probe.errors import ProbeError
    from tritium.probe.report import summary

    if options.resume and not options.out:
        raise ProbeError("--resume needs --out: the folder of the run to continue")
    if options.no_cache and options.cache_dir:
        raise ProbeError("--cache-dir and --no-cache exclude each other")
    silent = options.quiet or options.json
    settings = _settings(options, silent)
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        if options.data is None:
            result, text = _embedded(options, settings)
        else:
            result, text = _folder(options, settings), ""
    if options.json:
        print(json.dumps(result.report, indent=1))
    elif options.quiet:
        print(f"top-1 {result.scores.top1:.2%}")
    else:
        print("\n".join(["", text, ""] if text else [""]) + "\n" + summary(result.scores, result.report["classes"]))
        if options.out:
            print(f"\nwritten to {options.out}: head.safetensors, report.json, metrics.jsonl")
    return 0


def _embedded(options: argparse.Namespace, settings: Settings) -> tuple[Any, str]:
    from tritium.probe.embedded import RECIPE, comparison, run_embedded
    from tritium.probe.errors import ProbeError

    for name in NEEDS_DATA:
        if getattr(options, name):
            raise ProbeError(f"--{name.replace('_', '-')} needs DATA: without it, the digits and the backbone that "
                             "come with the package are used")
    settings.say("digits of the package: 1,437 images to learn from, 360 for validation, 10 classes; the backbone was "
                 "pre-trained on 0-4")
    result, rows = run_embedded(_recipe(options, RECIPE), settings)
    return result, comparison(rows)


def _folder(options: argparse.Namespace, settings: Settings) -> Any:
    from tritium.probe.backbone import load_backbone
    from tritium.probe.data import open_data
    from tritium.probe.errors import ProbeError
    from tritium.probe.head import Recipe
    from tritium.probe.workflow import run

    recipe = _recipe(options, Recipe())
    data = open_data(options.data, options.val_split or 0.2)
    if options.num_classes not in (None, len(data.classes)):
        raise ProbeError(f"--num-classes is {options.num_classes}, but {options.data} has {len(data.classes)} classes: "
                         f"{', '.join(data.classes[:8])}{', ...' if len(data.classes) > 8 else ''}")
    weights = "IMAGENET1K_V1" if options.weights is None else options.weights
    backbone = load_backbone(options.arch or "resnet18", None if weights.lower() == "none" else weights,
                             seed=recipe.seed, device=settings.device, image_size=options.image_size,
                             resize=options.resize)
    settings.say(f"{data.kind} {options.data}: {len(data.train):,} images to learn from, {len(data.val):,} for "
                 f"validation, {len(data.classes)} classes")
    for note in data.notes:
        settings.say(note)
    settings.say(f"backbone {backbone.arch}, weights {backbone.weights}")
    return run(data, backbone, recipe, settings)


def _recipe(options: argparse.Namespace, default: Recipe) -> Recipe:
    from dataclasses import fields, replace

    given = {field.name: getattr(options, field.name) for field in fields(default)}
    return replace(default, **{name: value for name, value in given.items() if value is not None})


def _settings(options: argparse.Namespace, silent: bool) -> Settings:
    from tritium.probe.errors import refusing
    from tritium.probe.features import default_cache
    from tritium.probe.workflow import Settings
    from tritium.tensor.device import as_available

    with refusing(RuntimeError, NotImplementedError, prefix=f"--device {options.device}: "):
        device = as_available(options.device)

    told: set[str] = set()

    def warn(text: str) -> None:
        if text not in told:
            told.add(text)
            print(f"tritium probe: warning: {text}", file=sys.stderr)

    return Settings(feature_batch_size=options.feature_batch_size, device=device,
                    cache=None if options.no_cache else options.cache_dir or default_cache(), live=options.no_cache,
                    augment=options.augment, skip_bad=options.skip_bad, out=options.out, resume=options.resume,
                    progress=sys.stderr.isatty() and not silent, say=(lambda text: None) if silent else _say, warn=warn)


def _say(text: str) -> None:
    print(text, flush=True)


def _version() -> str:
    from tritium import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
