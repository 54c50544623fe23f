"""The command bench fid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...optimize.artifacts import Json
from ...optimize.errors import UsageError

__all__ = ["fid_command"]


def fid_command(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    reference: Annotated[Path, typer.Argument(help="The folder of real pictures to compare with.")],
    *,
    weights: Annotated[
        Path | None, typer.Option(help="The published Inception weights, as .pth or TorchScript .pt.")
    ] = None,
    download_weights: Annotated[
        bool, typer.Option("--download-weights", help="Download them, once, to the cache: 91 MiB.")
    ] = False,
    trust_weights: Annotated[
        bool, typer.Option("--trust-weights", help="Take weights of another sha256; a TorchScript file runs code.")
    ] = False,
    resize: Annotated[
        Literal["clean", "legacy"], typer.Option(help="Bicubic and antialiased, or bilinear as older scripts.")
    ] = "clean",
    kid: Annotated[bool, typer.Option("--kid", help="Also the kernel distance.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the kernel distance's subsets.")] = 0,
    json: Json = False,
) -> None:
    """Compare two sets of pictures: FID on the published Inception weights.

    Without weights it is fd_random, the same distance on a small random network, which is no FID. What was
    measured of the reference is kept in the cache.
    """
    from .measure import format_distances, measure_distances
    from .picture_folder import PictureFolder
    from .published import download_weights as download

    if weights and download_weights:
        raise UsageError("bench fid: --weights and --download-weights exclude each other; pass one")
    sets = PictureFolder(pictures), PictureFolder(reference)
    file = download() if download_weights else weights
    asked = {"resize": resize, "kid": kid, "trust_weights": trust_weights, "seed": seed}
    print(format_distances(measure_distances(*sets, weights=file, **asked), as_json=json), end="")
