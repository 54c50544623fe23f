"""The vtopt command: one sub-command per step, and run, tryon, verify, inspect, sensitivity, train, draw, recipes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ..benchmarks.cli import bench
from .artifacts import (
    AnyIn,
    Force,
    Json,
    NetworkName,
    OnnxIn,
    PairCount,
    PairsFolder,
    Size,
    SizeOption,
    Threads,
    detect_kind,
    write_picture,
)
from .console import print_error, print_json, print_notice, print_step
from .cpu_target import TargetName
from .errors import BudgetError, OutputError, UsageError, VtoptError
from .interruption import is_interrupted, watch_interrupts
from .steps import STEPS, load_step

__all__ = ["app", "main"]

app = typer.Typer(
    name="vtopt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Take a trained virtual try-on network to a small, fast CPU artifact whose pictures have not changed.",
    epilog="Start with: vtopt run cpu-int8",
)
app.add_typer(bench, name="bench")

INTERRUPTED = 130
"""The exit code that Typer gives an interruption."""
RESUMING = ("run", "train", "sensitivity", "quantize", "finetune", "distill")
"""These commands go on where they were interrupted."""
RESUMED = "; what was finished is kept; the same command goes on from there"

EXAMPLES = {
    "strip": "vtopt strip training.pth weights.safetensors --network sdafn_plus_3",
    "finetune": "vtopt finetune small.safetensors recovered.safetensors --teacher original.safetensors",
    "distill": "vtopt distill teacher.safetensors student.safetensors --network sdafn_plus_tiny",
    "prune": "vtopt prune weights.safetensors pruned.safetensors --ratio 0.4",
    "export": "vtopt export weights.safetensors model.onnx --size 256x192",
    "simplify": "vtopt simplify model.onnx simple.onnx",
    "rewrite": "vtopt rewrite simple.onnx fast.onnx --runtime onnxruntime",
    "quantize": "vtopt quantize simple.onnx int8.onnx --int8 --pairs my_pairs",
    "convert": "vtopt convert int8.onnx int8.xml",
    "train": "vtopt train my.pth --steps 1200",
}


def _make_command(name: str, function: Callable[..., Path]) -> Callable[..., None]:
    """Wrap a step as a command that also takes --json and prints what the step made."""

    def command(*, json: bool, **arguments: Any) -> None:
        try:
            output = function(**arguments)
        except BudgetError:
            if arguments["output"].exists():
                print_step(arguments["output"], as_json=json)
            raise
        if name == "quantize":
            _announce_loss(arguments["source"], output)
        print_step(output, as_json=json)
        if name == "prune" and not json:
            from .pruning.table import format_pruning

            print(format_pruning(output), end="")

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    parameters = [*signature.parameters.values(), option]
    command.__name__ = function.__name__
    command.__doc__ = inspect.cleandoc(function.__doc__ or "").split("\n\nRaises")[0]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _announce_loss(source: Path, output: Path) -> None:
    """Say, before anything else, where a file came out slower or larger than the one it was made from."""
    from .step_losses import find_losses

    if detect_kind(source) == "onnx":  # what was made of weights has no parent on onnxruntime
        for loss in find_losses(source, output):
            print_notice(loss)


def _add_steps() -> None:
    from .train import train_network

    for name, function in (*((name, load_step(name)) for name in STEPS), ("train", train_network)):
        app.command(name, epilog=f"Example: {EXAMPLES[name]}")(_make_command(name, function))


_add_steps()


@app.command("run", epilog="Example: vtopt run cpu-fp16 --weights training.pth --network sdafn_plus_3 --pairs my_pairs")
def run_command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (vtopt recipes) or a YAML file.")],
    *,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint or weights. Default: the demo checkpoint.")] = None,
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="A further file, for a network of several parts.")
    ] = None,
    network: NetworkName = None,
    pairs: PairsFolder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the artifacts. Default: vtopt-out/RECIPE.")
    ] = None,
    pair_count: PairCount = 8,
    threads: Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Make every artifact anew.")] = False,
    json: Json = False,
) -> None:
    """Run a recipe from weights to a report.

    A finished step is skipped when nothing it depends on has changed. The report is printed, and kept
    in the output folder as report.html, a page with charts and pictures, report.md and report.json, with the worst
    pair of every model that differs as a picture.
    """
    from ..benchmarks.reports.run_report import write_run_report
    from ..checkpoints import DEMO_CHECKPOINT
    from ..recipes import find_recipe
    from .runner import RunBudgetError, run_recipe

    path = find_recipe(recipe)
    folder = output or Path("vtopt-out") / path.stem
    missed: RunBudgetError | None = None
    try:
        result = run_recipe(
            path,
            weights=weights or DEMO_CHECKPOINT,
            network=network,
            pairs=pairs,
            output=folder,
            with_=with_ or (),
            force=force,
            progress=_show_stage,
        )
    except RunBudgetError as error:
        missed, result = error, error.result
    for notice in result.notices:
        print_notice(notice)
    try:
        print(write_run_report(folder, count=pair_count, threads=threads, fmt="json" if json else "md"), end="")
        print_notice(f"artifacts are in {folder}, the report is {folder / 'report.html'}")
    finally:
        if missed:
            raise missed


def _show_stage(number: int, total: int, stage: Any, phase: str) -> None:
    words = {"start": "...", "done": "done", "skipped": "unchanged, kept", "missed": "missed its budget"}
    print(f"[{number}/{total}] {stage.step} '{stage.name}': {words[phase]}", file=sys.stderr, flush=True)


@app.command(
    "tryon",
    epilog="Example: vtopt tryon int8.onnx --person anna.jpg --clothes shirt.jpg -o anna-in-shirt.png",
)
def tryon_command(
    model: AnyIn,
    *,
    person: Annotated[Path, typer.Option(help="A picture of a person.")],
    clothes: Annotated[Path | None, typer.Option(help="A picture of a garment laid out on white.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .png to write.")],
    edge: Annotated[Path | None, typer.Option(help="The garment's mask, for networks that take one.")] = None,
    picture: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Another picture that the network takes, for each: pose, agnostic, densepose, parse_agnostic, parse, "
            "layout, joints or hole; a file as folders of pairs hold it.",
        ),
    ] = None,
    network: NetworkName = None,
    runtime: Annotated[str | None, typer.Option(help="torch, onnxruntime or openvino.")] = None,
    force: Force = False,
) -> None:
    """Put a garment on a person with weights, ONNX or IR."""
    from .tryon import make_tryon, parse_pictures

    print(
        make_tryon(
            *(model, person, clothes, output),
            edge=edge,
            pictures=parse_pictures(picture or ()),
            network=network,
            runtime=runtime,
            force=force,
        )
    )


@app.command(
    "verify",
    epilog="Example: vtopt verify fp32.onnx int8.onnx --pairs my_pairs --min-psnr 40 --sheet worst.png",
)
def verify_command(
    reference: AnyIn,
    model: AnyIn,
    *,
    pairs: PairsFolder = None,
    network: NetworkName = None,
    pair_count: PairCount = 8,
    min_psnr: Annotated[float | None, typer.Option(help="Exit with 3 when the median PSNR is below this.")] = None,
    max_flow_px: Annotated[
        float | None, typer.Option(help="Exit with 3 when the median flow shift is above this, in pixels.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the worst pair: model, reference, 8x difference.")] = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Compare the pictures of two artifacts on pairs."""
    from .console import format_figures
    from .verify import compare_artifacts, require_flow, require_psnr, save_sheet

    difference = compare_artifacts(reference, model, pairs=pairs, pair_count=pair_count, network=network)
    figures = difference.to_figures()
    print_json(figures) if json else print("\n".join(format_figures(figures)))
    if sheet:
        save_sheet(difference, sheet, force=force)
    require_psnr(difference, min_psnr, model)
    require_flow(difference, max_flow_px, model)


@app.command("inspect", epilog="Example: vtopt inspect int8.onnx --profile")
def inspect_command(
    file: AnyIn,
    *,
    profile: Annotated[bool, typer.Option("--profile", help="Also run ONNX, and show where its time goes.")] = False,
    json: Json = False,
) -> None:
    """Show what a file is, what it holds, its warps, and every step that made it."""
    from .inspection import format_inspection, inspect_artifact

    found = inspect_artifact(file, profile=profile)
    print_json(found) if json else print(format_inspection(found))


@app.command(
    "sensitivity",
    epilog="Example: vtopt sensitivity fp32.onnx --pairs my_pairs --output nodes.csv --plot nodes.svg",
)
def sensitivity_command(
    model: OnnxIn,
    *,
    pairs: PairsFolder = None,
    pair_count: PairCount = 2,
    calibration_count: Annotated[int, typer.Option(min=1, help="How many pairs int8 is calibrated on.")] = 16,
    target: Annotated[TargetName, typer.Option(help="The CPU that int8 is for. Default: this machine's.")] = "auto",
    ranges: Annotated[
        Literal["auto", "minmax", "percentile", "entropy", "mse"],
        typer.Option(help="How int8 finds its ranges; auto is what gives the best pictures of these."),
    ] = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the table: .csv or .json.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it: .svg.")] = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Show what each convolution costs the picture when it alone is int8, and what it saves.

    The worst comes first, all of them together last. Interrupted, the same command goes on where it was; vtopt
    quantize --int8 with a budget, the same pairs and the same counts goes on from it too.
    """
    from ..benchmarks.reports.files import check_report
    from .sensitivity import format_sensitivity, measure_sensitivity, to_json, write_report

    if output:
        check_report(output, (".csv", ".json"), force=force)
    if plot:
        check_report(plot, (".svg",), force=force)
    found = measure_sensitivity(
        model,
        pairs=pairs,
        pair_count=pair_count,
        calibration_count=calibration_count,
        target=target,
        ranges=ranges,
        say=print_notice,
    )
    for notice in found.notices:
        print_notice(notice)
    print_json(to_json(found)) if json else print(format_sensitivity(found), end="")
    for path in filter(None, (output, plot)):
        write_report(found, path)


@app.command("draw", epilog="Example: vtopt draw my_pairs --count 12 --sheet sheet.png")
def draw_command(
    folder: Annotated[Path, typer.Argument(help="The folder to write, in VITON layout.")],
    *,
    count: Annotated[int, typer.Option(min=1, help="How many pairs.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The first pair's seed; the others follow.")] = 0,
    size: SizeOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Also write all of them on one picture.")] = None,
) -> None:
    """Draw try-on pairs with their truth: a person, a garment, and the person wearing it."""
    import tempfile

    from .data.synthetic import draw_contact_sheet, write_pairs

    for place in (folder, sheet):
        if place and place.exists():
            raise OutputError(f"{place}: exists already; choose another name")
    chosen = size or Size(256, 192)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vtopt-", dir=folder.parent) as draft:
        try:
            write_pairs(Path(draft) / folder.name, count, seed=seed, size=chosen).replace(folder)
        except ValueError as error:
            raise UsageError(f"draw: {error}") from error
    print(folder)
    if sheet:
        print(write_picture(draw_contact_sheet(range(seed, seed + count), chosen), sheet))


@app.command("recipes")
def recipes_command() -> None:
    """List the shipped recipes."""
    from ..recipes import list_recipes
    from .recipe import load_recipe

    for name, path in list_recipes().items():
        recipe = load_recipe(path)
        steps = ", ".join(stage.step for stage in recipe.stages)
        print(f"{name:16} {recipe.description}", steps, path, sep=f"\n{'':16} ")


def main() -> None:
    """Run the command line; a VtoptError is one sentence on stderr and its exit code."""
    watch_interrupts()
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if is_interrupted():  # some library made another error of it
            _end_interrupted()
        if isinstance(error, VtoptError):
            print_error(str(error))
            sys.exit(error.exit_code)
        if isinstance(error, OSError):
            print_error(f"{error.filename or 'vtopt'}: {error.strerror or error}")
            sys.exit(1)
        raise
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_interrupted()
        raise


def _end_interrupted() -> NoReturn:
    print_error("interrupted" + (RESUMED if {*RESUMING}.intersection(sys.argv[1:2]) else ""))
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
