"""Guards on the page: the workers' counts of a pair as one."""

from __future__ import annotations

from typing import Any

from kd.report.selection import GuardCounts, guard_counts


def manifest(lists: int, **guards: int) -> dict[str, Any]:
    """Of a decoding worker."""
    return {"counts": {"lists": lists}, "facts": {"guards": guards}}


def test_workers_are_added_up_by_pair() -> None:
    decoded = [("en-de", manifest(100, copy=2, language=1)), ("en-de", manifest(50, copy=1)), ("en-fi", manifest(70))]
    others = [("en-de", {"counts": {"pairs out": 9}, "facts": {}})]
    statistics: dict[str, Any] = {"set_aside": {"copy": 2}, "no_way_out": {}}
    selected = [("en-de", statistics, "gold"), ("en-de", {**statistics, "no_way_out": {"language": 1}}, "gold")]
    (counts,) = guard_counts([*decoded, *others], selected, several=True)
    assert counts == GuardCounts(
        lists=150,
        best={"copy": 3, "language": 1},
        set_aside={"copy": 4},
        no_way_out={"language": 1},
        on_guard="gold",
        name="en-de",
    )
    assert counts.names == ["copy", "language"]


def test_nothing_bad_is_no_entry() -> None:
    assert guard_counts([("en-de", manifest(10, copy=0))], [("en-de", {}, "drop")], several=False) == []
