"""A distance between two sets of pictures, with all that it must be stated with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from ..reports.tables import format_table

__all__ = ["PictureSetDistance", "Resize", "format_distances"]

Resize = Literal["clean", "legacy"]
COLUMNS = ("name", "value", "spread", "count", "reference_count", "resize", "filter", "side", "network", "features")


@dataclass(frozen=True)
class PictureSetDistance:
    """A Frechet or a kernel distance, and how it was measured."""

    name: str
    """fid or kid on the published weights; fd_random and kd_random without any; fd_other_weights, kd_other_weights."""
    value: float
    spread: float | None
    """Of a kernel distance over its subsets, their standard deviation; None of a single one."""
    subsets: int | None
    """How many a kernel distance is the mean of."""
    subset_size: int | None
    """Pictures of each set in a subset."""
    count: int
    reference_count: int
    reference: str
    """What the other set is, for people."""
    resize: Resize
    filter: str
    side: int
    """Height and width that pictures were resized to, in pixels."""
    network: str
    features: int
    weights_sha256: str | None
    seed: int | None
    """Of the subsets of a kernel distance."""
    notes: tuple[str, ...]
    """What it can and cannot say, in sentences."""

    @property
    def title(self) -> str:
        """The name as people write it: FID and KID."""
        return self.name.upper() if self.name in ("fid", "kid") else self.name

    def describe(self) -> str:
        """Say in one line what the number is of: the counts, the filter and the weights."""
        weights = f"weights sha256 {self.weights_sha256[:16]}" if self.weights_sha256 else "no weights given"
        resize = f"resize {self.resize} ({self.filter}) to {self.side}x{self.side}"
        network = f"network {self.network}, {self.features} features, {weights}"
        return (
            f"{self.title}: {self.count:,} pictures to {self.reference_count:,}, {self.reference}; {resize}; {network}"
        )


def format_distances(distances: Iterable[PictureSetDistance], *, as_json: bool = False) -> str:
    """Return the distances as a table and what is to be known of them, or as JSON."""
    rows = [asdict(distance) for distance in distances]
    if as_json:
        return format_table([row | {"notes": " ".join(row["notes"])} for row in rows], list(rows[0]), "json")
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    sha256 = rows[0]["weights_sha256"]
    file = f"Weights: sha256 {sha256}.\n" if sha256 else ""
    return f"{format_table(rows, COLUMNS)}\n{file}{' '.join(notes)}\n"
