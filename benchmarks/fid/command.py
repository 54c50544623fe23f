"""The command bench fid, and the options of distances that bench run has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...optimize.artifacts import Json
from ...optimize.errors import UsageError

__all__ = ["DownloadWeights", "Kid", "ResizeName", "TrustWeights", "WeightsFile", "fid_command", "find_weights"]

WeightsFile = Annotated[
    Path | None,
    typer.Option(help="The published Inception weights, as .pth or TorchScript .pt.", show_default=False),
]
DownloadWeights = Annotated[bool, typer.Option("--download-weights", help="Download them, once, to the cache: 91 MiB.")]
TrustWeights = Annotated[
    bool, typer.Option("--trust-weights", help="Take weights of another sha256; a TorchScript file runs code.")
]
ResizeName = Annotated[
    Literal["clean", "legacy"], typer.Option(help="Bicubic and antialiased, or bilinear as older scripts.")
]
Kid = Annotated[bool, typer.Option("--kid", help="Also the kernel distance.")]


def fid_command(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    reference: Annotated[Path, typer.Argument(help="The folder of real pictures to compare with.")],
    *,
    weights: WeightsFile = None,
    download_weights: DownloadWeights = False,
    trust_weights: TrustWeights = False,
    resize: ResizeName = "clean",
    kid: Kid = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the kernel distance's subsets.")] = 0,
    json: Json = False,
) -> None:
    """Compare two sets of pictures: FID on the published Inception weights.

    Without weights it is fd_random, the same distance on a small random network, which is no FID. What was
    measured of the reference is kept in the cache.
    """
    from .measure import measure_distances
    from .picture_distance import format_distances
    from .picture_folder import PictureFolder

    sets = PictureFolder(pictures), PictureFolder(reference)
    file = find_weights(weights, download=download_weights)
    asked = {"resize": resize, "kid": kid, "trust_weights": trust_weights, "seed": seed}
    print(format_distances(measure_distances(*sets, weights=file, **asked), as_json=json), end="")


def find_weights(weights: Path | None, *, download: bool) -> Path | None:
    """Return the file of weights that was asked for, downloaded where that was asked; None for neither.

    Raises UsageError for both, and what `download_weights` raises.
    """
    from .published import download_weights

    if weights and download:
        raise UsageError("--weights and --download-weights exclude each other; pass one")
    return download_weights() if download else weights
