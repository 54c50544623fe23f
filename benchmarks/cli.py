"""The bench commands."""

from __future__ import annotations

import typer

from .fid.command import fid_command
from .peers.command import peers_command
from .reports.command import report_command
from .run.command import compare_command, run_command
from .studies.commands import correlation_command, forms_command, int8_command, rewrites_command

__all__ = ["bench"]

bench = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure models side by side.")

COMMANDS = {
    "run": (run_command, "fp32.onnx int8.onnx --threads 1,2 -o results.json"),
    "report": (report_command, "results.json --table final --format csv"),
    "compare": (compare_command, "before.json results.json"),
    "rewrites": (rewrites_command, "--network sdafn_plus_3 --batch 1 --output rewrites.csv"),
    "forms": (forms_command, "--case 256x128x96 --threads 2 --output forms.csv"),
    "correlation": (correlation_command, "--case 256x32x24 --count 1000 --count 10000"),
    "int8": (int8_command, "--network sdafn_plus_tiny --output int8.csv --sheets worst"),
    "peers": (peers_command, "--network sdafn_plus_tiny --output peers.csv --olive ~/olive/bin/olive"),
    "fid": (fid_command, "made real --weights pt_inception-2015-12-05-6726825d.pth"),
}
"""Name -> function and an example."""

for name, (command, example) in COMMANDS.items():
    bench.command(name, epilog=f"Example: vtopt bench {name} {example}")(command)
