"""HR-VITON: where the garment goes and what is where (conditions), and the picture made of that (generator)."""

from .conditions import ConditionConfig, ConditionGenerator, build_hrviton_tocg
from .generator import GeneratorConfig, ImageGenerator, build_hrviton_gen
from .pipeline import HrViton, build_hrviton

__all__ = [
    "ConditionConfig",
    "ConditionGenerator",
    "GeneratorConfig",
    "HrViton",
    "ImageGenerator",
    "build_hrviton",
    "build_hrviton_gen",
    "build_hrviton_tocg",
]
