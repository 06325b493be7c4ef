"""Filters, ranks and orders over entries; unknown never matches, order is that of saving."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.store.entry import Entry
from smartcash_format.store.query import (
    best,
    by_epoch,
    fields,
    filter_entries,
    latest,
    nearest_metric,
    parse_where,
    ranked,
    sort_entries,
    unknown_metric,
)
from tests.store.checkpoints import OTHER_RUN, RUN, START, entry, identifier

NAN = math.nan
INF = math.inf


def epochs(entries: list[Entry]) -> list[int]:
    return [found.epoch for found in entries]


def with_metric(*values: float | None) -> list[Entry]:
    return [
        entry(n, metrics={} if value is None else {"val_map": value})
        for n, value in enumerate(values)
    ]


ENTRIES = [
    entry(1, backbone="cspdarknet", dataset=None, tags=["a"]),
    entry(2, backbone=None, is_best=True, tags=["a", "release"]),
    entry(3, dataset="local", is_best=True, metrics={"val_map": NAN, "val_loss": 0.1}),
    entry(4, step=400, metrics={"val_map": 0.75}),
    entry(5, step=500, metrics={}),
]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"backbone": "efficientnet_b4"}, [3, 4, 5]),
        ({"backbone": "EfficientNet_B4"}, []),
        ({"dataset": "local"}, [3]),
        ({"dataset": "loc"}, []),
        ({"min_epoch": 4}, [4, 5]),
        ({"max_epoch": 2}, [1, 2]),
        ({"min_epoch": 2, "max_epoch": 4}, [2, 3, 4]),
        ({"is_best": True}, [2, 3]),
        ({"is_best": False}, [1, 4, 5]),
        ({"tags": "a"}, [1, 2]),
        ({"tags": ["a", "release"]}, [2]),
        ({"tags": ["nobody"]}, []),
        ({"tags": []}, [1, 2, 3, 4, 5]),
        ({"metrics": {"val_map": ">=0.5"}}, [1, 2, 4]),
        ({"metrics": {"val_map": "> 0.5"}}, [4]),
        ({"metrics": {"val_map": "==0.5"}}, [1, 2]),
        ({"metrics": {"val_map": "!=0.5"}}, [4]),
        ({"metrics": {"val_map": "<7.5e-1"}}, [1, 2]),
        ({"metrics": {"val_map": "<=.75"}}, [1, 2, 4]),
        ({"metrics": {"val_map": ">=-1", "val_loss": "<1"}}, []),
        ({"metrics": {"val_mAP": ">=0"}}, []),
        ({"since": START + timedelta(minutes=4)}, [4, 5]),
        ({"until": START + timedelta(minutes=2)}, [1, 2]),
        ({"since": "2026-01-31T12:05:00Z"}, [5]),
        ({"since": "2026-01-31"}, [1, 2, 3, 4, 5]),
        ({"until": "2026-01-31"}, [1, 2, 3, 4, 5]),
        ({"until": "2026-01-30"}, []),
        ({"since": date(2026, 1, 31), "until": date(2026, 1, 31)}, [1, 2, 3, 4, 5]),
        ({"until": date(2026, 1, 30)}, []),
        ({"tags": None}, [1, 2, 3, 4, 5]),
        ({"is_best": 1}, [2, 3]),
        ({"where": lambda found: found.step is not None}, [4, 5]),
        ({"is_best": True, "tags": "release", "max_epoch": 2}, [2]),
    ],
)
def test_filters_are_anded_exact_and_inclusive_and_unknown_never_matches(
    criteria: dict[str, Any], expected: list[int]
) -> None:
    assert epochs(filter_entries(ENTRIES, **criteria)) == expected


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    zone = timezone(timedelta(hours=7))
    moment = (START + timedelta(minutes=4)).astimezone(zone)
    assert epochs(filter_entries(ENTRIES, since=moment)) == [4, 5]


@pytest.mark.parametrize("text", ["0.5", "=>0.5", ">=", ">=half", ">=0.5,<1", ">=nan", "", 0.5])
def test_a_condition_of_another_form_is_refused_with_the_form(text: Any) -> None:
    with pytest.raises(ValueError, match=r"condition of metric 'val_map'.*such as \">=0\.5\""):
        filter_entries(ENTRIES, metrics={"val_map": text})


def test_a_date_is_all_of_its_day() -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    step = timedelta(microseconds=1)
    day = timedelta(days=1)
    moments = [midnight - step, midnight, midnight + day - step, midnight + day]
    saved = [entry(number, saved_at=moment) for number, moment in enumerate(moments)]
    assert epochs(filter_entries(saved, since="2026-01-31", until="2026-01-31")) == [1, 2]


def test_a_time_without_zone_or_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="since has no time zone"):
        filter_entries(ENTRIES, since=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="until is 'yesterday'; it is a date or a time"):
        filter_entries(ENTRIES, until="yesterday")


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        ({"is_best": "yes"}, "is_best is str, not True or False"),
        ({"since": 1_769_817_600.0}, "since is 1769817600.0; it is a datetime, a date or a text"),
        ({"until": b"2026"}, "until is b'2026'"),
    ],
)
def test_what_is_of_another_type_is_refused(criteria: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        filter_entries(ENTRIES, **criteria)


def test_whole_numbers_are_compared_as_such() -> None:
    seen = [entry(1, metrics={"images": 2**53 + 1})]
    assert filter_entries(seen, metrics={"images": f"=={2**53}"}) == []
    assert filter_entries(seen, metrics={"images": f"=={2**53 + 1}"}) == seen


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([0.1, 0.9, 0.5], "max", 1),
        ([0.1, 0.9, 0.5], "min", 0),
        ([0.9, 0.1, 0.9], "max", 2),
        ([0.1, 0.9, 0.1], "min", 2),
        ([NAN, 0.1, None], "max", 1),
        ([NAN, 0.1, None], "min", 1),
        ([INF, 0.1, -INF], "max", 1),
        ([INF, 0.1, -INF], "min", 1),
        ([NAN, None, INF], "max", None),
        ([], "max", None),
        ([0, 0.0, -0.0], "min", 2),
    ],
)
def test_the_best_is_finite_and_of_equals_the_later(
    values: list[float | None], mode: Any, expected: int | None
) -> None:
    for entries in (with_metric(*values), with_metric(*values)[::-1]):
        found = best(entries, "val_map", mode)
        assert (found.epoch if found else None) == expected


def test_without_a_metric_the_best_is_the_last_one_flagged() -> None:
    found = best(ENTRIES)
    assert found is not None
    assert found.epoch == 3
    assert best(ENTRIES[3:]) is None


@pytest.mark.parametrize(("metric", "mode"), [("val_map", None), (None, "max"), ("x", "maximum")])
def test_a_metric_needs_its_mode_and_a_mode_its_metric(metric: Any, mode: Any) -> None:
    with pytest.raises(ValueError, match="mode='max'") as error:
        best(ENTRIES, metric, mode)
    assert ("not mode='maximum'" in str(error.value)) is (metric == "x")


def test_a_ranking_leaves_out_what_has_no_finite_value() -> None:
    assert epochs(ranked(with_metric(0.1, NAN, 0.3, None, 0.2), "val_map", "max")) == [2, 4, 0]


def test_the_latest_is_the_last_saved_whatever_its_epoch_and_place() -> None:
    forked = [entry(1, epoch=10), entry(3, epoch=11), entry(2, epoch=20, step=9)]
    found = latest(forked)
    assert found is not None
    assert found.epoch == 11
    assert latest([]) is None


def test_of_one_epoch_saved_twice_the_last_saved_is_found() -> None:
    entries = [entry(4, epoch=7), entry(9, epoch=7), entry(8, epoch=7), entry(10)]
    found = by_epoch(entries, 7)
    assert found is not None
    assert found.saved_at == START + timedelta(minutes=9)
    assert by_epoch(entries, 8) is None


def test_the_nearest_metric_is_found_by_spelling() -> None:
    assert nearest_metric(ENTRIES, "val_mAP") == "val_map"
    assert nearest_metric(ENTRIES, "val_map") == "val_map"
    assert nearest_metric(ENTRIES, "zzz") == ""


def test_a_metric_that_none_has_is_told_with_the_one_that_may_be_meant() -> None:
    meant = "no checkpoint has the metric 'val_mpa'; did you mean 'val_map'?"
    assert unknown_metric(ENTRIES, "val_mpa") == meant
    assert "they have 'a', 'b'" in unknown_metric([entry(1, metrics={"a": 1, "b": 2})], "zzz")
    assert "no metrics" in unknown_metric([entry(1, metrics={})], "zzz")
    many = entry(1, metrics={f"m{n}": 1 for n in range(20)})
    assert unknown_metric([many], "zzz").endswith("and 12 more")
    nan = entry(1, metrics={"val_map": float("nan")})
    assert unknown_metric([nan], "val_map") == unknown_metric([], "val_map") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch>=4", [4, 5]),
        ("epoch = 4", [4]),
        ("step<500", [4]),
        ("size_bytes>0", [1, 2, 3, 4, 5]),
        ("size_bytes>1KB", [1, 2, 3, 4, 5]),
        ("size_bytes>=1 GiB", []),
        ("metrics.val_map>=0.5", [1, 2, 4]),
        ("metrics.val_map!=0.5", [4]),
        ("backbone=efficientnet_b4", [3, 4, 5]),
        ("backbone!=efficientnet_b4", [1]),
        ("is_best=true", [2, 3]),
        ("has_optimizer=false", []),
        ("tags=release", [2]),
        ("tags!=a", [3, 4, 5]),
        ("saved_at>=2026-01-31T12:04", [4, 5]),
        ("saved_at>2026-01-31T12:03Z", [4, 5]),
        ("saved_at=2026-01-31T12:03:00.000000Z", [3]),
        ("saved_at<=2026-01-31", [1, 2, 3, 4, 5]),
        ("saved_at<2026-01-31T12:02", [1]),
    ],
)
def test_a_comparison_in_words_asks_one_field(text: str, expected: list[int]) -> None:
    assert epochs(filter_entries(ENTRIES, where=parse_where(text))) == expected


def test_a_metric_whose_name_has_odd_characters_can_be_asked_for() -> None:
    seen = [entry(1, metrics={"metrics/mAP50-95(B)": 0.5})]
    assert filter_entries(seen, where=parse_where("metrics.metrics/mAP50-95(B)>=0.5")) == seen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run_id={run}", [1]),
        ("run_id={run:.8}", [1]),
        ("run_id!={run:.8}", [2]),
        ("run_id={run:.8}0", []),
        ("run_id=", []),
        ("parent_id={parent:.8}", [2]),
        ("parent_id!={parent:.8}", []),
    ],
)
def test_an_id_is_compared_as_far_as_a_table_shows_it(text: str, expected: list[int]) -> None:
    seen = [entry(1), entry(2, run_id=OTHER_RUN, parent_id=identifier(1))]
    asked = text.format(run=RUN, parent=identifier(1))
    assert epochs(filter_entries(seen, where=parse_where(asked))) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics.>=5", "there is no field 'metrics.'"),
        ("epoch", "FIELD OPERATOR VALUE"),
        ("metrics.val_map", "quote it for a shell, which takes > and < for itself"),
        (">=5", "FIELD OPERATOR VALUE"),
        ("", "FIELD OPERATOR VALUE"),
        ("epocs>=5", "did you mean epoch?"),
        ("zzz=1", "fields: name, "),
        ("val_map>=0.5", "; a metric is asked for as metrics.val_map"),
        ("epoch>=five", "compared with a number"),
        ("epoch>=", "compared with a number"),
        ("metrics.val_map>=high", "compared with a number"),
        ("size_bytes>big", "'big' is no size; it is a number of bytes, such as 500MB"),
        ("size_bytes>", "is no size"),
        ("saved_at>=yesterday", "2026-01-31T12:00, not with 'yesterday'"),
        ("saved_at>=2026-01-31T12:00+02:00", "a time in UTC"),
        ("saved_at>=", "a time in UTC"),
        ("saved_at>=2026-13", "not with '2026-13'"),
        ("saved_at>=2026-02-30T12", "not with '2026-02-30T12'"),
        ("saved_at>=2026-01-31T24:00:00.5", "a time in UTC"),
        ("is_best>true", "is_best=true or is_best=false"),
        ("is_best=yes", "is_best=true or is_best=false"),
        ("tags>=a", "tags=release"),
    ],
)
def test_a_comparison_that_cannot_be_asked_is_refused_with_what_can(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_where(text)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("-saved_at", [5, 4, 3, 2, 1]),
        ("saved_at", [1, 2, 3, 4, 5]),
        ("epoch", [1, 2, 3, 4, 5]),
        ("-epoch", [5, 4, 3, 2, 1]),
        ("step", [4, 5, 3, 2, 1]),
        ("-step", [5, 4, 3, 2, 1]),
        ("metrics.val_map", [2, 1, 4, 5, 3]),
        ("-metrics.val_map", [4, 2, 1, 5, 3]),
        ("dataset", [3, 5, 4, 2, 1]),
        ("-is_best", [3, 2, 5, 4, 1]),
    ],
)
def test_entries_sort_by_a_field_with_the_unknown_last_and_equals_newest_first(
    by: str, expected: list[int]
) -> None:
    assert epochs(sort_entries(ENTRIES, by)) == expected


def test_those_saved_in_one_moment_stand_in_the_order_of_their_ids_from_either_end() -> None:
    same = [entry(number, saved_at=START) for number in (2, 1, 3)]
    by_id = sorted(same, key=lambda found: found.checkpoint_id)
    assert sort_entries(same, "saved_at") == by_id
    assert sort_entries(same, "-saved_at") == by_id[::-1]


def test_sorting_by_a_field_that_is_none_says_which_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"no field 'size'; fields: name, .*asked for as metrics\.size"
    ):
        sort_entries(ENTRIES, "-size")


def test_every_field_can_be_sorted_by_and_asked() -> None:
    for field in fields():
        if field == "metrics.<name>":
            continue
        assert len(sort_entries(ENTRIES, field)) == 5


NUMBERS = st.none() | st.floats() | st.integers(-3, 3)


@given(st.lists(NUMBERS, max_size=8), st.sampled_from(["min", "max"]))
def test_nothing_finite_beats_the_best(values: list[float | None], mode: Any) -> None:
    entries = with_metric(*values)
    found = best(entries, "val_map", mode)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if found is None:
        assert finite == []
    else:
        assert found.metrics["val_map"] == (min(finite) if mode == "min" else max(finite))
        later = values[found.epoch + 1 :]
        assert found.metrics["val_map"] not in later


@pytest.mark.parametrize("metrics", ["val_map>=0.5", ["val_map"]])
def test_conditions_that_are_no_dict_are_refused_with_the_form(metrics: Any) -> None:
    with pytest.raises(TypeError, match=r"metrics is .*such as \{\"val_map\": \">=0.5\"\}"):
        filter_entries(with_metric(0.5), metrics=metrics)
