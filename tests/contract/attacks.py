"""Writes docs/attacks.md from the tests: `python -m tests.contract.attacks`."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import Final

from smartcash_format.disk.observe import validate
from tests.contract.invalid import INVALID
from tests.contract.make import EXAMPLES

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "attacks.md"

_HEAD: Final = """# What is refused, and where

Made from the tests by `python -m tests.contract.attacks`; a test holds that it is up to date.

`META` is what `validate` looks at when it is asked to be quick, `STRUCTURE` is looked at before
every load and by `validate`, `CONTENT` compares every digest (a verified load does so for what it
loads). A breach that one depth finds every deeper one finds too. The codes are those of
[FORMAT.md](../schemas/FORMAT.md), section 15.

## In the files of a checkpoint

Each has a directory of its own under `schemas/examples/invalid`, named by the code and by what was
done. `at` is the place that the finding names first.

| code | depth | at | what was done |
|---|---|---|---|
"""
_MADE: Final = """
## Too large for an example, or no file that a repository can keep

| attack | code | test |
|---|---|---|
"""
_LOADED: Final = """
## When live objects are to be filled

Found before anything live is touched.

| attack | refused as | test |
|---|---|---|
"""
_CONVERTED: Final = """
## In files of others that `convert` reads

Refused with `UnsafeCheckpointError` or `UnsavableStateError`, by a process that imports nothing;
what could take long is refused within a second.

| attack | test |
|---|---|
"""
_MOVED: Final = """
## On the way: copies, `receive`, signatures, what is shown

| attack | answer | test |
|---|---|---|
"""
# Attack, what it is refused as, and the test that holds it: file below tests, function.
_LARGE: Final = (
    ("a `meta.json` beyond its limit", "json-too-large",
     "contract/test_large.py", "test_a_meta_over_its_limit_is_refused"),
    ("a manifest beyond its limit", "json-too-large",
     "contract/test_large.py", "test_a_manifest_over_its_limit_is_refused"),
    ("an index beyond its limit", "json-too-large",
     "contract/test_large.py", "test_an_index_over_its_limit_is_refused"),
    ("a header of brackets alone", "json-too-large",
     "contract/test_large.py", "test_a_header_of_brackets_is_refused_before_it_is_parsed"),
    ("a header of too many tensors", "tensor-count",
     "contract/test_large.py", "test_a_header_of_too_many_tensors_is_refused"),
    ("a pickle program beyond its limit", "pickle-bounds",
     "contract/test_large.py", "test_a_program_over_its_limit_is_refused"),
    ("too many listed files", "field-invalid",
     "contract/test_large.py", "test_more_files_than_allowed_are_refused"),
    ("a file that is listed twice", "json-duplicate-key",
     "contract/test_large.py", "test_a_file_that_is_listed_twice_is_no_json"),
    ("a link inside, outside or to nothing, a pipe, a socket", "file-kind",
     "contract/test_large.py", "test_what_is_no_plain_file_is_refused_and_not_opened"),
    ("keys of dicts and members of sets that share a hash", "pickle-bounds",
     "spec/test_pickles.py", "test_what_keys_can_cost_is_bounded"),
    ("the same in tagged forms, nested tuples included", "pickle-bounds",
     "spec/test_pickles.py", "test_keys_of_tagged_forms_are_counted_with_those_of_dicts"),
    ("a megabyte of empty containers", "pickle-bounds",
     "spec/test_pickles.py", "test_containers_are_bounded_by_what_they_take"),
    ("copies of a large dict", "pickle-bounds",
     "spec/test_pickles.py", "test_copies_of_a_large_dict_are_bounded"),
    ("a history of millions of torn lines", "counted up to HISTORY_LINES, the last ones",
     "store/test_history.py", "test_millions_of_torn_lines_are_not_all_looked_at"),
)  # fmt: skip
_LIVE: Final = (
    ("a scheduler's key that would replace a method or the optimizer", "scheduler-key",
     "torch_io/test_fit_scheduler.py", "test_a_key_that_would_replace_behaviour_is_refused"),
    ("hyperparameters of a wrong type or range", "hyperparameter",
     "torch_io/test_hyperparameters.py", "test_a_poisoned_hyperparameter_is_named"),
    ("moments of another shape", "optimizer-state",
     "torch_io/test_fit_optimizer.py", "test_moments_of_another_shape_are_a_problem_with_the_name"),
    ("two moments in one memory", "optimizer-state",
     "torch_io/test_fit_optimizer.py", "test_state_that_shares_its_memory_is_a_problem"),
    ("state that no parameter has", "optimizer-state",
     "torch_io/test_fit_optimizer.py", "test_state_of_no_parameter_is_a_problem"),
    ("a torch file that would run code", "`UnsafeCheckpointError`",
     "torch_io/test_load_failures.py", "test_a_torch_file_that_would_run_code_is_not_opened"),
    ("an environment variable or a program that turns `weights_only` off", "no difference",
     "torch_io/test_load_failures.py",
     "test_neither_the_environment_nor_a_replaced_torch_load_opens_the_door"),
    ("a flipped bit anywhere", "digest-mismatch, or what it breaks first",
     "torch_io/test_load_failures.py", "test_a_flipped_bit_in_any_part_changes_nothing"),
)  # fmt: skip
_FOREIGN: Final = (
    ("a call of a function (`posix.system`, `builtins.eval`, `getattr`)", "",
     "integrations/test_convert.py", "test_a_program_in_a_pickle_is_refused_by_name_and_not_run"),
    ("a function that `--allow` names: it becomes inert", "",
     "integrations/test_convert.py",
     "test_a_class_that_is_allowed_by_name_is_inert_whatever_it_is"),
    ("TorchScript, ONNX, something else", "",
     "integrations/test_convert.py", "test_what_is_no_file_of_weights_is_refused_with_what_to_do"),
    ("a file cut short", "", "integrations/test_convert.py", "test_a_file_cut_short_is_refused"),
    ("a tensor that reaches beyond its storage", "",
     "integrations/test_convert.py", "test_a_tensor_that_reaches_beyond_its_storage_is_refused"),
    ("overlapping tensors that multiply the file", "",
     "integrations/test_inert_reader.py", "test_small_files_do_not_become_large_checkpoints"),
    ("zip archives that two readers read as two files", "",
     "integrations/test_inert_reader.py", "test_one_that_says_a_thing_twice_is_refused"),
    ("a reader that does not end, or prints without end", "",
     "integrations/test_inert_reader.py",
     "test_a_reader_that_takes_too_long_or_says_too_much_is_ended"),
)  # fmt: skip
_OTHERS: Final = (
    ("a received checkpoint that is not what it says", "never visible",
     "integrations/test_share.py", "test_a_checkpoint_that_is_not_what_it_says_is_never_visible"),
    ("a breach behind sound digests", "never visible",
     "integrations/test_share.py", "test_what_a_digest_cannot_tell_is_seen_before_it_is_visible"),
    ("a file longer than it is listed", "not copied at all",
     "disk/test_transfer.py", "test_a_file_longer_than_it_is_listed_is_not_copied_at_all"),
    ("a file that grows while it is copied", "not followed",
     "disk/test_transfer.py", "test_a_file_that_grows_while_it_is_copied_is_not_followed"),
    ("a file replaced after it was opened", "what was opened is read on",
     "disk/test_read.py", "test_a_file_that_is_replaced_after_it_was_opened_is_not_what_is_read"),
    ("a changed byte, a file more or less behind a signature", "the signature breaks",
     "disk/test_signatures.py", "test_a_file_more_or_less_breaks_it"),
    ("a `meta.json` of one's own behind a signature", "the signature breaks",
     "disk/test_signatures.py", "test_a_meta_json_of_ones_own_is_not_the_signed_one"),
)  # fmt: skip


def document() -> str:
    """The text of docs/attacks.md."""
    text = _HEAD + "".join(_examples())
    text += _MADE + "".join(_row(*row) for row in _LARGE)
    text += _LOADED + "".join(_row(*row) for row in _LIVE)
    text += _CONVERTED + "".join(
        f"| {attack} | {_link(file, test)} |\n" for attack, _, file, test in _FOREIGN
    )
    text += "".join(
        f"| {what} | {_link(_READER, _HOSTILE_TEST)} |\n" for what in _hostile_programs()
    )
    return text + _MOVED + "".join(_row(*row) for row in _OTHERS)


_READER: Final = "integrations/test_inert_reader.py"
_HOSTILE_TEST: Final = "test_what_takes_long_or_becomes_large_is_refused_within_a_second"


def _examples() -> list[str]:
    """A row for each code, depth and place."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, breach in INVALID.items():
        code, _, what = name.partition("--")
        report = validate(EXAMPLES / "invalid" / name, breach.depth)
        first = next(problem for problem in report.problems if problem.code == code)
        place = first.where.partition(":")[0].partition("[")[0]
        place = place if (EXAMPLES / "invalid" / name / place).is_file() else "meta.json"
        found[code, breach.depth.name, place].append(what.replace("-", " ") or code)
    return [
        f"| {code} | {depth} | `{place}` | {'; '.join(what)} |\n"
        for (code, depth, place), what in found.items()
    ]


def _hostile_programs() -> list[str]:
    """What the reader of strangers' pickles is tried with, by the names in its test."""
    tree = ast.parse((ROOT / "tests" / _READER).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOSTILE":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError("no programs")


def _row(attack: str, answer: str, file: str, test: str) -> str:
    return f"| {attack} | {answer} | {_link(file, test)} |\n"


def _link(file: str, test: str) -> str:
    """The test, which has to be there."""
    assert f"def {test}(" in (ROOT / "tests" / file).read_text("utf-8"), (file, test)
    return f"[{test.removeprefix('test_').replace('_', ' ')}](../tests/{file})"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
