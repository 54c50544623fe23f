"""The command bench peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...optimize.artifacts import Force, Json, PairCount, PairsFolder

__all__ = ["peers_command"]


def peers_command(
    *,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable. Default: sdafn_plus_tiny, trained, sdafn_plus_3 and pfafn_warp_aligned.",
            show_default=False,
        ),
    ] = None,
    pairs: PairsFolder = None,
    pair_count: PairCount = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads a runtime may use.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each model.")] = 10,
    olive: Annotated[
        str, typer.Option(metavar="PATH", help="Olive's executable, in an environment of its own.")
    ] = "olive",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write a CSV, anew after each network.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare vtopt's recipes with the tools that one could take instead: size, time, pictures and flow.

    These are torch.onnx with onnxsim or onnxslim, OpenVINO, and int8 of onnxruntime, NNCF, neural-compressor and
    Olive, each with its defaults. Forms on one runtime run in turns; a tool that fails, or is not installed, has its
    reason in place of figures. Pairs that are compared are not calibrated on. Interrupted, the CSV keeps the networks
    that were finished.
    """
    from ..reports.files import check_report
    from .figures import DEFAULT_NETWORKS, measure_peers
    from .report import format_peers, list_tools, write_peers_csv

    if output:
        check_report(output, force=force)
    groups, tools = [], list_tools(olive)
    asked = {"pairs": pairs, "pair_count": pair_count, "threads": threads, "runs": runs, "olive": olive}
    for group in measure_peers(network or DEFAULT_NETWORKS, **asked):
        groups.append(group)
        if output and group.rows:
            write_peers_csv(groups, tools, output)
    print(format_peers(groups, tools, as_json=json), end="")
