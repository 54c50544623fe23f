"""Try-on networks, and the registry that finds them by name."""

from .registry import NETWORKS, InputSpec, Network, build_network

__all__ = ["NETWORKS", "InputSpec", "Network", "build_network"]
