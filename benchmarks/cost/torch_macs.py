"""Count the multiply-adds of any model: in torch by the convention of `mac_rules`, from the shapes of one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any

from ..host import need
from .flops import MacReport

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...optimize.networks import Network

__all__ = ["count_network_macs", "count_torch_macs"]


def count_network_macs(network: Network, size: tuple[int, int] | None = None) -> MacReport:
    """Count what a network takes for one picture of this height and width, by default its own."""
    from ...optimize.artifacts import Size
    from ...optimize.export import make_example

    return count_torch_macs(network.module, make_example(network, Size(*(size or network.size)), 1, 0))


def count_torch_macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> MacReport:
    """Count the multiply-adds of one run on inputs (N, C, H, W), of which the shapes alone matter where that can be.

    One multiply-add is one MAC; 1 MAC = 2 FLOPs. Convolutions, matrix products, sampling and averages count as
    `mac_rules` says of ONNX, so that a network and its export count nearly the same. What acts on single elements,
    normalises, reduces otherwise or moves data is no MAC; an operation that is none of these and has no rule is listed
    under `uncounted`. `by_node` is left empty: torch runs operations, not nodes.
    """
    torch = need("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    def run(*modes: Any) -> _Count:
        count = _Count()
        with torch.no_grad(), ExitStack() as stack:
            for mode in (*modes, _make_mode(count)):
                stack.enter_context(mode)
            module(*inputs)
        return count

    try:
        count = run(FakeTensorMode(allow_non_fake_inputs=True))
    except Exception:  # it may ask for a number, which shapes alone do not give
        count = run()
    return MacReport(sum(count.by_op.values()), dict(count.by_op.most_common()), {}, dict(count.uncounted))


class _Count:
    def __init__(self) -> None:
        self.by_op: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()

    def add(self, operation: Any, arguments: Sequence[Any], made: Any) -> None:
        name = operation.overloadpacket.__name__
        if rule := RULES.get(name):
            if macs := rule(arguments, made):
                self.by_op[name] += macs
        elif not _is_free(operation, name):
            self.uncounted[name] += 1


def _make_mode(count: _Count) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            count.add(func, args, made)
            return made

    return Counting()


def _is_free(operation: Any, name: str) -> bool:
    from torch import Tag

    return Tag.pointwise in operation.tags or operation.is_view or name.rstrip("_") in FREE or name.startswith("_to_")


def _convolve(arguments: Sequence[Any], made: Any) -> int:
    """Every weight meets each place of the result once; that of a transposed convolution, of its input."""
    given, weight, transposed = arguments[0], arguments[1], arguments[6]
    places = given if transposed else made
    return weight.numel() * places.numel() // places.shape[1]


def _multiply(left: int) -> Callable[[Sequence[Any], Any], int]:
    """Matrices, of which the one at argument `left` has as its last axis what is summed over."""
    return lambda arguments, made: made.numel() * arguments[left].shape[-1]


def _attend(arguments: Sequence[Any], made: Any) -> int:
    """Queries (..., L, E) with keys (..., S, E), the result of that with values (..., S, V)."""
    query, key, value = arguments[:3]
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _sample(arguments: Sequence[Any], made: Any) -> int:
    """Bilinear, nearest, bicubic are modes 0, 1 and 2."""
    return made.numel() * (2, 0, 4)[arguments[2]] ** arguments[1].shape[-1]


def _resize(taps: int) -> Callable[[Sequence[Any], Any], int]:
    def count(arguments: Sequence[Any], made: Any) -> int:
        resized = sum(before != after for before, after in zip(arguments[0].shape, made.shape, strict=True))
        return made.numel() * taps**resized if resized else 0

    return count


def _pool(arguments: Sequence[Any], made: Any) -> int:
    kernel, axes = arguments[1], made.dim() - 2
    return made.numel() * (prod(kernel) if len(kernel) > 1 else kernel[0] ** axes)


def _average(arguments: Sequence[Any], made: Any) -> int:
    return arguments[0].numel()


RULES: Mapping[str, Callable[[Sequence[Any], Any], int]] = {
    "convolution": _convolve,
    "_convolution": _convolve,
    "mm": _multiply(0),
    "bmm": _multiply(0),
    "mv": _multiply(0),
    "dot": _multiply(0),
    "addmm": _multiply(1),
    "baddbmm": _multiply(1),
    "linear": _multiply(0),
    "_scaled_dot_product_flash_attention_for_cpu": lambda arguments, made: _attend(arguments, made[0]),
    "_scaled_dot_product_attention_math": lambda arguments, made: _attend(arguments, made[0]),
    "grid_sampler_2d": _sample,
    "grid_sampler_3d": _sample,
    "upsample_linear1d": _resize(2),
    "upsample_bilinear2d": _resize(2),
    "_upsample_bilinear2d_aa": _resize(2),
    "upsample_bicubic2d": _resize(4),
    "upsample_trilinear3d": _resize(2),
    "avg_pool1d": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool,
    "_adaptive_avg_pool2d": _average,
    "_adaptive_avg_pool3d": _average,
    "mean": _average,
}
"""Operation of torch -> (its arguments, what it made) -> MACs."""

_FREE = """
    _adaptive_max_pool2d adaptive_max_pool2d all amax amin any arange argmax argmin bernoulli cat
    channel_shuffle clone col2im constant_pad_nd copy cummax cumprod cumsum detach device embedding empty
    empty_like empty_strided expand_copy eye _fft_r2c fill flip full full_like gather im2col index index_add
    index_copy index_put index_select is_same_size item lift lift_fresh lift_fresh_copy linalg_vector_norm
    linspace _local_scalar_dense _log_softmax logsumexp masked_fill masked_select max max_pool2d_with_indices
    max_pool3d_with_indices median min native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training native_dropout native_group_norm native_layer_norm new_empty new_full
    new_ones new_zeros nonzero norm normal one_hot ones ones_like pixel_shuffle pixel_unshuffle prod rand
    rand_like randint randn randn_like reflection_pad1d reflection_pad2d repeat repeat_interleave
    replication_pad2d _reshape_copy resize roll scalar_tensor scatter scatter_add select_scatter set
    slice_scatter _softmax sort split_with_sizes_copy stack std std_mean sum topk tril triu unbind_copy uniform
    _unsafe_index _unsafe_view upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_nearest_exact2d
    _upsample_nearest_exact2d var var_mean zero zeros zeros_like
"""
FREE = frozenset(_FREE.split())
"""Operations without multiply-adds under the convention, beside those on single elements and views."""
