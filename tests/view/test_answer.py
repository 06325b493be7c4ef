"""The first line of a report: which checkpoint to use, and why."""

from __future__ import annotations

import math
from typing import Any

import pytest

from smartcash_format.view.answer import answer, by_likelihood, likely_mode
from tests.store.checkpoints import entry, identifier

OTHER = identifier(77)


def test_nothing_to_choose_from_is_said() -> None:
    found = answer([])
    assert found.entry is None
    assert found.sentences() == ("There is no checkpoint here.",)


def test_the_metric_given_decides_and_the_distances_are_told() -> None:
    entries = [entry(n, metrics={"val_map": value}) for n, value in ((1, 0.5), (2, 0.8), (3, 0.6))]
    found = answer(entries, "val_map", "max")
    assert (found.entry, found.next, found.last) == (entries[1], entries[2], entries[2])
    said = " ".join(found.sentences())
    assert "val_map 0.8000; larger is better." in said
    assert "0.2000 ahead of the next best (epoch 3), 33.3%." in said
    assert "0.2000 ahead of the newest (epoch 3)" in said


def test_where_epochs_are_the_same_steps_tell_them_apart() -> None:
    entries = [
        entry(n, epoch=0, step=500 * n, metrics={"acc": v}) for n, v in ((1, 0.5), (2, 0.75))
    ]
    said = answer(entries, "acc", "max").sentences()[1]
    assert said == "0.2500 ahead of the next best (epoch 0, step 500), 50.0%."


def test_a_share_that_rounds_to_nothing_is_said_to_be_small() -> None:
    entries = [entry(n, metrics={"acc": value}) for n, value in ((1, 0.72), (2, 0.72001))]
    assert "ahead of the next best (epoch 1), less than 0.1%." in answer(
        entries, "acc", "max"
    ).sentences()[1]  # fmt: skip


def test_without_a_metric_the_one_that_the_flags_go_by_decides() -> None:
    entries = [
        entry(n, is_best=n != 3, metrics={"acc": acc, "val_loss": loss})
        for n, acc, loss in ((1, 0.9, 1.0), (2, 0.8, 0.5), (3, 0.95, 0.7), (4, 0.7, 0.4))
    ]
    found = answer(entries)
    assert (found.metric, found.mode, found.entry) == ("val_loss", "min", entries[3])
    assert "flagged best by this metric" in found.why


def test_flags_that_no_metric_explains_stand_by_themselves() -> None:
    entries = [entry(n, is_best=n == 2, metrics={"acc": n / 10}) for n in (1, 2, 3)]
    found = answer(entries)
    assert (found.metric, found.entry) == (None, entries[1])
    assert "flagged best when it was saved" in found.why


def test_where_nothing_is_flagged_a_metric_is_guessed_and_that_is_said() -> None:
    entries = [entry(n, metrics={"train_loss": 1 / n, "val_mAP": -n}) for n in (1, 2)]
    found = answer(entries)
    assert (found.metric, found.mode, found.entry) == ("val_mAP", "max", entries[0])
    assert "guessed" in found.why


def test_a_validation_is_guessed_before_what_may_be_the_training() -> None:
    entries = [entry(n, metrics={"loss": 1 / n, "val_loss": n, "a_loss": n}) for n in (1, 2)]
    found = answer(entries)
    assert (found.metric, found.entry) == ("val_loss", entries[0])


def test_without_metrics_or_with_nan_alone_it_is_the_newest() -> None:
    for metrics in ({}, {"val_loss": math.nan}, {"odd": 1.0}):
        entries = [entry(n, metrics=metrics) for n in (1, 2)]
        assert answer(entries).entry == entries[1]
    lacking = answer([entry(1, metrics={"val_loss": math.nan})], "val_loss", "min")
    assert "has a number in val_loss" in lacking.why


def test_a_newest_that_is_nan_is_named() -> None:
    entries = [entry(1, metrics={"a": 1.0}), entry(2, metrics={"a": math.nan})]
    assert "For the newest (epoch 2) it is NaN." in answer(entries, "a", "max").sentences()


@pytest.mark.parametrize(
    "name",
    ["val_loss", "RMSE", "valLoss", "word_error_rate", "val/mae", "wer", "top1_err", "perplexity"],
)
def test_what_is_better_when_smaller_is_told_by_the_name(name: str) -> None:
    assert likely_mode(name) == "min"


@pytest.mark.parametrize(
    "name",
    [
        "metrics/mAP50-95(B)", "flower_accuracy", "answer_accuracy", "AP/apple", "lower_bound_iou",
        "power_f1", "certainty_auc", "terrain_iou", "valMAP", "val/recall", "bleu4",
    ],
)  # fmt: skip
def test_what_is_better_when_larger_is_told_by_the_name(name: str) -> None:
    assert likely_mode(name) == "max"
    entries = [entry(n, metrics={name: n}) for n in (1, 2)]
    found = answer(entries)
    assert (found.metric, found.entry) == (name, entries[1])


@pytest.mark.parametrize(
    "name", ["lr", "lr/pg0", "epoch_time", "grad_norm", "gpu_mem", "mserank", "quality"]
)
def test_a_name_that_says_nothing_has_no_better_end_and_decides_nothing(name: str) -> None:
    assert likely_mode(name) is None
    entries = [entry(n, metrics={name: -n}) for n in (1, 2)]
    found = answer(entries)
    assert (found.metric, found.entry) == (None, entries[1])
    assert f"no metric's name says whether larger or smaller is better ({name})" in found.why


def test_what_a_training_notes_of_itself_does_not_explain_its_flags() -> None:
    def metrics(n: int) -> dict[str, float]:
        # Every third epoch is no better; the time and the rate fall in step with the flags.
        fallen = n - n // 3
        loss = 5 - fallen + (0.5 if n % 3 == 0 else 0)
        return {"epoch_time": 99 - fallen, "lr": 1 / (fallen + 1), "odd_loss_x": loss}

    entries = [entry(n, is_best=n % 3 != 0, metrics=metrics(n)) for n in range(1, 9)]
    assert answer(entries).metric == "odd_loss_x"
    alone = [
        entry(n, is_best=n % 3 != 0, metrics={"lr": metrics(n)["lr"], "val_map": 0.5})
        for n in range(1, 9)
    ]
    found = answer(alone)
    assert (found.metric, found.entry) == (None, alone[-1])
    assert "flagged best when it was saved" in found.why


def test_a_metric_without_a_telling_name_explains_flags_that_tell_it_apart() -> None:
    entries = [
        entry(n, is_best=best, metrics={"quality": value})
        for n, value, best in ((1, 1.0, True), (2, 3.0, True), (3, 2.0, False))
    ]
    found = answer(entries)
    assert (found.metric, found.mode, found.entry) == ("quality", "max", entries[1])
    # Where every one is flagged, whatever only rises would explain it.
    assert answer(entries[:2]).metric is None
    assert answer(entries[:2]).entry == entries[1]


def test_the_likeliest_come_first_and_what_decides_nothing_last() -> None:
    names = ["epoch_time", "lr", "quality", "train_acc", "train_loss", "val_loss", "val_mAP50"]
    assert by_likelihood(names) == [
        "val_mAP50", "val_loss", "quality", "train_acc", "train_loss", "epoch_time", "lr"
    ]  # fmt: skip


def test_a_word_inside_another_is_no_likely_metric() -> None:
    entries = [entry(n, metrics={"bitmap_bytes": -n, "accelerator_hours": -n}) for n in (1, 2)]
    assert answer(entries).metric is None


def test_a_metric_of_one_checkpoint_does_not_explain_the_flags_of_many() -> None:
    def metrics(n: int) -> dict[str, float]:
        return {"val_loss": 1 / n} | ({"test_acc": 0.5} if n == 19 else {})

    # One flag is off: val_loss explains a little less than all of them.
    entries = [entry(n, is_best=n != 7, metrics=metrics(n)) for n in range(1, 21)]
    found = answer(entries)
    assert (found.metric, found.entry) == ("val_loss", entries[-1])


def test_one_flag_alone_makes_the_metric_a_guess_by_its_name() -> None:
    alone = answer([entry(1, is_best=True, metrics={"lr": 0.01})])
    assert alone.metric is None
    found = answer([entry(1, is_best=True, metrics={"lr": 0.01, "val_loss": 0.5})])
    assert (found.metric, found.mode) == ("val_loss", "min")
    assert "guessed" in found.why


@pytest.mark.parametrize("copied", [{}, {"checkpoint_id": OTHER, "derived_from": identifier(3)}])
def test_a_copy_of_the_best_is_not_the_next_best(copied: dict[str, Any]) -> None:
    entries = [entry(n, metrics={"acc": n / 10}) for n in (1, 2, 3)]
    copy = entry(3, metrics={"acc": 0.3}, **copied)
    found = answer([*entries, copy])
    assert found.next == entries[1]
    assert "It is also the newest." in found.sentences()
