"""The likely cause of a mismatch in one sentence, where the names and shapes tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from smartcash_format.spec import layout
from smartcash_format.torch_io.fit_optimizer import OptimizerFit
from smartcash_format.torch_io.fit_tensors import TensorFit
from smartcash_format.torch_io.report import Reshaped

# A prefix has to explain at least this part of the names before it is proposed.
PREFIX_SHARE: Final = 0.5
# A head is a small part of a network: YOLOv5's has 6 of 349 tensors, a classifier's 2.
HEAD_SHARE: Final = 0.2
# More differing names than this is another network, not a changed layer.
OTHER_NETWORK_SHARE: Final = 0.5


def likely_cause(fit: TensorFit, *, origin: str) -> str:
    """The likely cause of what does not fit, or nothing.

    `origin` says in a few words what the checkpoint was saved from (class, backbone).
    """
    return (
        _prefix_hint(fit)
        or _other_network_hint(fit, origin)
        or _head_hint(fit)
        or _partial_hint(fit)
    )


def optimizer_cause(loose: OptimizerFit) -> str:
    """What to do about an optimizer that does not fit; `loose` is how it fits without strict."""
    if loose.problems:
        return ""
    sources = [source for group in loose.sources for source in group]
    kept = sum(source is not None for source in sources)
    way = "leaves the optimizer as it is here"
    if kept:
        way = (
            f"keeps its state for {kept} of {len(sources)} parameters and starts the others afresh"
        )
    return f"Optimizer: strict=False {way}; optimizer=None loads the weights alone."


def common_prefix(longer: Iterable[str], shorter: Iterable[str]) -> str | None:
    """The prefix that most of the longer names have before one of the shorter ones, or None."""
    names = list(longer)
    known = set(shorter)
    found = Counter(
        name[: dot + 1]
        for name in names
        for dot in (place for place, character in enumerate(name) if character == ".")
        if name[dot + 1 :] in known
    )
    if not found:
        return None
    # `a.b.` and `a.` explain equally many names where one side repeats itself; take the shorter.
    prefix, count = max(found.items(), key=lambda item: (item[1], -len(item[0])))
    return prefix if count >= PREFIX_SHARE * len(names) else None


def _prefix_hint(fit: TensorFit) -> str:
    if prefix := common_prefix(fit.missing, fit.unexpected):
        return (
            f"The model's names begin with {prefix!r} and the checkpoint's do not: load into that "
            f"part, model.get_submodule({prefix[:-1]!r}), or give a state dict whose names are "
            f"changed by {{name.removeprefix({prefix!r}): tensor ...}}."
        )
    if prefix := common_prefix(fit.unexpected, fit.missing):
        weight_set = "" if fit.weight_set == layout.MODEL else f", weight_set={fit.weight_set!r}"
        return (
            f"The checkpoint's names begin with {prefix!r} and the model's do not. Without it: "
            f"model.load_state_dict({{name.removeprefix({prefix!r}): tensor for name, tensor in "
            f"load_tensors(path, {prefix + '*'!r}{weight_set}).items()}})"
        )
    return ""


def _other_network_hint(fit: TensorFit, origin: str) -> str:
    common = len(fit.fitting) + len(fit.mismatched)
    live = common + len(fit.missing)
    stored = common + len(fit.unexpected)
    names_differ = (
        len(fit.missing) > OTHER_NETWORK_SHARE * live
        or len(fit.unexpected) > OTHER_NETWORK_SHARE * stored
    )
    if names_differ and fit.missing and fit.unexpected:
        return f"Most names differ: the checkpoint is of another network ({origin})."
    if len(fit.mismatched) > OTHER_NETWORK_SHARE * live:
        return (
            "Most shapes differ under the same names: the checkpoint is of another size of this "
            f"network, or of another backbone ({origin})."
        )
    return ""


def _head_hint(fit: TensorFit) -> str:
    total = len(fit.fitting) + len(fit.mismatched)
    if fit.missing or fit.unexpected or not fit.mismatched:
        return ""
    if len(fit.mismatched) > max(2, HEAD_SHARE * total):
        return ""
    if not all(_differs_in_first_dimension(item) for item in fit.mismatched):
        return ""
    rows = sorted({(item.stored[0], item.live[0]) for item in fit.mismatched})
    shown = ", ".join(f"{stored} in the checkpoint, {live} here" for stored, live in rows[:3])
    return (
        f"Only the outputs of {len(fit.mismatched)} of {total} tensors differ ({shown}): a head "
        "for another number of classes. strict=False loads everything else and leaves the head."
    )


def _partial_hint(fit: TensorFit) -> str:
    loaded = len(fit.fitting)
    total = loaded + len(fit.mismatched) + len(fit.missing)
    if not loaded or not (fit.missing or fit.unexpected or fit.mismatched):
        return ""
    return f"strict=False loads the {loaded} of {total} tensors that fit and lists the rest."


def _differs_in_first_dimension(item: Reshaped) -> bool:
    return bool(item.stored and item.live) and item.stored[1:] == item.live[1:]
