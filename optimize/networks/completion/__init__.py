"""Fashion completion: a garment that is hidden is made anew, first its shape (layout), then its texture."""

from .builders import (
    CompletionConfig,
    build_completion,
    build_completion_shape,
    build_completion_texture,
    build_discriminator,
)

__all__ = [
    "CompletionConfig",
    "build_completion",
    "build_completion_shape",
    "build_completion_texture",
    "build_discriminator",
]
