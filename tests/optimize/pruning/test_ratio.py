"""Ratios and counts as they are written on a command line and in recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer
from small_registered import build_small

from vtopt.optimize.errors import UsageError
from vtopt.optimize.pruning.ratio import PruningRatio, find_ratio, parse_count, parse_ratio, resolve_ratio


@pytest.mark.parametrize("text", ["0.4", "encoder=0.4,decoder=0.25", "0.3,decoder=0", "1e-05"])
def test_parse_ratio_reads_what_it_writes(text) -> None:
    assert str(parse_ratio(text)) == text


def test_parse_ratio_of_parts() -> None:
    assert parse_ratio(" 0.3 , a.b = 0.5 ") == PruningRatio((("", 0.3), ("a.b", 0.5)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "removes nothing; give one above 0"),
        ("a=0,b=0", "removes nothing"),
        ("1", "a ratio of 1 removes every channel"),
        ("1.5", "removes every channel"),
        ("inf", "removes every channel"),
        ("-0.4", "would add channels"),
        ("a=-1", "would add channels"),
        ("nan", "is no ratio; write 0.4"),
        ("half", "is no ratio"),
        ("40%", "is no ratio"),
        ("", "is no ratio"),
        ("a=", "is no ratio"),
        ("=0.5", "names no part"),
        ("a=0.5,a=0.3", "a is there twice"),
        ("0.4,0.3", "is there twice"),
    ],
)
def test_parse_ratio_refuses(text, message) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        parse_ratio(text)


@pytest.mark.parametrize(
    ("text", "count"), [("40G", 40 * 10**9), ("1.5m", 1_500_000), ("750 K", 750_000), ("12", 12), ("1e9", 10**9)]
)
def test_parse_count(text, count) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "G", "0", "-3G", "nan", "infG", "many", "0.1"])
def test_parse_count_refuses(text) -> None:
    with pytest.raises(typer.BadParameter, match="is no number of multiply-adds"):
        parse_count(text)


def test_resolve_ratio_knows_parts_and_names(build) -> None:
    network = replace(build("unet"), parts={"encoder": ("down", "up.0")})
    resolved = resolve_ratio(parse_ratio("0.1,encoder=0.4,up.2=0.2"), network)
    assert resolved == {"": 0.1, "down": 0.4, "up.0": 0.4, "up.2": 0.2}


@pytest.mark.parametrize(
    ("layer", "ratio"), [("up.1", 0.4), ("up.1.0", 0.4), ("up.10.0", 0.1), ("up.1.0.conv", 0.2), ("upper", 0.1)]
)
def test_find_ratio_takes_the_innermost_module(layer, ratio) -> None:
    assert find_ratio(layer, {"": 0.1, "up.1": 0.4, "up.1.0.conv": 0.2}) == ratio
    assert find_ratio(layer, {"last": 0.5}) == 0


@pytest.mark.parametrize("part", ["u", "up.", "up.00"])
def test_resolve_ratio_takes_whole_names(part, build) -> None:
    with pytest.raises(UsageError, match="has no part"):
        resolve_ratio(parse_ratio(f"{part}=0.4"), build("unet"))


def test_resolve_ratio_refuses_an_unknown_part(build) -> None:
    network = replace(build("unet"), parts={"encoder": ("down",)})
    with pytest.raises(UsageError, match="has no part 'head'; it has encoder, down, up, last"):
        resolve_ratio(parse_ratio("head=0.4"), network)


@pytest.mark.parametrize("text", ["encoder=0.4,up.0=0.2", "up.0=0.2,encoder=0.4", "encoder=0.4,decoder=0.2"])
def test_resolve_ratio_refuses_two_ratios_for_a_module(text, build) -> None:
    network = replace(build("unet"), parts={"encoder": ("down", "up.0"), "decoder": ("up.0", "up.1")})
    with pytest.raises(UsageError, match=r"'up\.0' lies in part '.*' and in another"):
        resolve_ratio(parse_ratio(text), network)


def test_resolve_ratio_takes_modules_that_lie_in_others(build) -> None:
    network = replace(build("unet"), parts={"decoder": ("up",), "start": ("up.0",)})
    resolved = resolve_ratio(parse_ratio("start=0.2,decoder=0.4"), network)
    assert (find_ratio("up.0.conv", resolved), find_ratio("up.1.conv", resolved)) == (0.2, 0.4)


def test_parts_of_parts_and_whole_parts_have_ratios() -> None:
    resolved = resolve_ratio(parse_ratio("warp=0.4,warp.flows=0.1,generator=0.25"), build_small("pfafn"))
    assert resolved == {"warp": 0.4, "warp.aflow_net": 0.1, "generator": 0.25}
    found = [find_ratio(layer, resolved) for layer in ("warp.image_FPN.smooth.0", "warp.aflow_net.netMain.0.0")]
    assert found == [0.4, 0.1]


def test_a_part_is_listed_once_where_it_is_not_known() -> None:
    known = "warp, warp.encoder, warp.flows, generator"
    with pytest.raises(UsageError, match=f"has no part 'encoder'; it has {known}$"):
        resolve_ratio(parse_ratio("encoder=0.4"), build_small("pfafn"))
