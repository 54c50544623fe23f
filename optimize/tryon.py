"""Put a garment on a person with any artifact."""

from __future__ import annotations

from pathlib import Path

from .artifacts import write_picture

__all__ = ["make_tryon"]


def make_tryon(
    model: Path,
    person: Path,
    clothes: Path,
    output: Path,
    *,
    edge: Path | None = None,
    network: str | None = None,
    runtime: str | None = None,
    force: bool = False,
) -> Path:
    """Write the picture of the person wearing the clothes, at the model's size.

    Pictures of any size and kind are centre-cropped and resized as the network was trained. Raises
    InputError for pictures or models that cannot be read, OutputError for an output that exists.
    """
    from PIL import Image

    from ..benchmarks.engines import infer_picture, open_engine
    from .data.pairs import Pair
    from .data.preprocess import load_picture, prepare_mask, prepare_picture, restore_picture

    engine = open_engine(model, network=network, runtime=runtime)
    pair = Pair(
        name=f"{person.stem}-{clothes.stem}",
        person=prepare_picture(load_picture(person), engine.size),
        clothes=prepare_picture(load_picture(clothes), engine.size),
        edge=prepare_mask(load_picture(edge), engine.size) if edge else None,
        truth=None,
    )
    return write_picture(Image.fromarray(restore_picture(infer_picture(engine, pair))), output, force=force)
