"""Which training wrote a torch file, and what its keys mean here.

State dicts, SmartCash's, YOLOv5's, Ultralytics' and Lightning's dictionaries, and those of many a
training loop: the names below are where each keeps what. What no name claims stays: plain values in
`notes`, states with tensors in `extra`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import torch

from smartcash_format.errors import UnsavableStateError
from smartcash_format.integrations.carriers import carrier_of, carrier_of_state, is_module
from smartcash_format.integrations.found import Found, Known
from smartcash_format.integrations.legacy_pt import Standin, TorchData
from smartcash_format.integrations.lightning import read_callbacks
from smartcash_format.spec import limits

_MODEL: Final = (
    *("model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights"),
    *("module", "params"),
)
_EMA: Final = ("ema", "ema_state_dict", "model_ema", "ema_model", "params_ema", "state_dict_ema")
_OPTIMIZER: Final = ("optimizer_state_dict", "optimizer_states", "optimizer_state", "optimizer")
_SCHEDULER: Final = (
    *("scheduler_state_dict", "lr_schedulers", "scheduler_state", "lr_scheduler", "scheduler"),
    "lr_scheduler_state_dict",
)
# A GradScaler's state has numbers only, and is a state all the same.
_SCALER: Final = (
    *("scaler", "scaler_state_dict", "grad_scaler", "amp_scaler", "MixedPrecision"),
    "native_amp_scaling_state",
)
_EPOCH: Final = ("epoch", "epochs", "current_epoch")
_STEP: Final = ("global_step", "step", "iteration", "iter", "n_iter")
_METRICS: Final = ("metrics", "train_metrics")
_CONFIG: Final = (
    *("config", "hyper_parameters", "train_args", "cfg", "opt", "args", "hparams", "yaml"),
    "config_dict",
)
_TIME: Final = ("timestamp", "saved_at", "date", "time")
# What YOLO counts from 0 and others from 1.
_FROM_ZERO: Final = frozenset({"YOLOv5", "Ultralytics", "Lightning"})
# Of a key in a message: enough to recognise it.
_KEY_CHARACTERS: Final = 60
_EPOCH_IN_NAME: Final = re.compile(r"epoch[=_-]?([0-9]{1,9})", re.IGNORECASE)


def recognise(path: Path, data: TorchData) -> Found:
    """What is to be saved of a torch file. Raises UnsavableStateError where it has no weights."""
    value = data.value
    found = Found(source=path, kind="a state dict", files=[path], mapped=[data.mapped])
    found.dropped += data.dropped
    if is_module(value):
        found.kind = "a whole module"
        value = {"model": value}
    elif _is_state_dict(value):
        value = {"state_dict": value}
    elif isinstance(value, Mapping):
        found.kind = f"a training dictionary ({_writer(value)})"
    else:
        raise _nothing(path, f"holds {type(value).__name__}, no state dict or dictionary")
    rest = dict(value)
    writer = _writer(rest)
    _weights(found, rest)
    _states(found, rest)
    if writer == "Lightning":
        read_callbacks(found, rest)
    _words(found, rest, writer)
    _others(found, rest)
    return found


def _is_state_dict(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    tensors = sum(isinstance(item, torch.Tensor) for item in value.values())
    return tensors == len(value) or (tensors > 0 and any("." in str(key) for key in value))


def _writer(value: Mapping[Any, Any]) -> str:
    if "pytorch-lightning_version" in value:
        return "Lightning"
    if "train_args" in value or "train_results" in value:
        return "Ultralytics"
    if "updates" in value and "best_fitness" in value:
        return "YOLOv5"
    return "SmartCash" if "model_state_dict" in value else "a training loop"


def _nothing(path: Path, why: str) -> UnsavableStateError:
    return UnsavableStateError(
        f"{path.name} {why}", where=path.name, kind="file", hint="there are no weights to convert"
    )


def _weights(found: Found, rest: dict[str, Any]) -> None:
    for name, keys in (("model", _MODEL), ("ema", _EMA)):
        # A name such as "model" also stands for the architecture's name in some trainings.
        key = next((key for key in keys if _has_weights(rest.get(key))), None)
        if key is None:
            continue
        value = rest.pop(key)
        if is_module(value):
            _hints(found, value)
            setattr(found, name, carrier_of(value, found.dropped, key))
        else:
            setattr(found, name, value)
            _other_entries(found, name, value)
        found.note(name, Known.READ, key)
    if found.model is None and found.ema is not None:
        found.model = found.ema
        found.note("model", Known.INFERRED, "the file has no model of its own: the same as ema")
    if found.model is None:
        there = sorted(str(key)[:_KEY_CHARACTERS] for key in rest)
        raise _nothing(found.source, f"has the keys {there[:20]}")
    if found.ema is not None and not isinstance(found.ema, torch.nn.Module):
        found.ema = carrier_of_state(found.ema)


def _has_weights(value: object) -> bool:
    return is_module(value) or _is_state_dict(value)


def _other_entries(found: Found, name: str, state: Mapping[Any, Any]) -> None:
    """Says which entries of a state dict are no tensors: a module kept more than those there."""
    others = [str(key) for key, item in state.items() if not isinstance(item, torch.Tensor)]
    if others and name == "ema":
        # Its carrier has tensors only.
        found.dropped += [f"{name}: {key[:_KEY_CHARACTERS]}: no tensor" for key in others]
    elif others:
        shown = ", ".join(key[:_KEY_CHARACTERS] for key in others[:3])
        found.note(f"{name}, not tensors", Known.READ, f"{len(others)} entries: {shown}")


def _hints(found: Found, module: Standin) -> None:
    """What a detector's module says of itself beside its tensors: the classes, the architecture."""
    for key in ("names", "nc", "yaml", "yaml_file"):
        if key in module.attributes:
            found.said.setdefault("notes", {})[key] = plain(module.attributes[key])


def _states(found: Found, rest: dict[str, Any]) -> None:
    for article, name, keys in (("an", "optimizer", _OPTIMIZER), ("a", "scheduler", _SCHEDULER)):
        key = next((key for key in keys if rest.get(key) is not None), None)
        if key is None:
            found.note(name, Known.UNKNOWN, "the source has none")
            continue
        value = rest[key]
        if isinstance(value, list) and value:
            value, *more = value
            found.dropped += [
                f"{key}[{index}]: more than one {name}" for index, _ in enumerate(more, 1)
            ]
        if isinstance(value, Mapping) and value:
            setattr(found, name, plain(value))
            found.note(name, Known.READ, key)
        else:
            found.dropped.append(f"{key}: no state dict of {article} {name}")
        del rest[key]
    key = next((key for key in _SCALER if isinstance(rest.get(key), Mapping)), None)
    if key is not None and (state := plain(rest.pop(key))):
        found.extra["scaler"] = state
        found.note("extra[scaler]", Known.READ, key)


def _words(found: Found, rest: dict[str, Any], writer: str) -> None:
    _epoch(found, rest, writer)
    key, step = _take(rest, _STEP, _count)
    if key:
        found.say("step", step, Known.READ, key)
    else:
        found.note("step", Known.UNKNOWN, "the source has none")
    metrics: dict[str, Any] = dict(found.said.get("metrics", {}))
    sources = [found.fields["metrics"].source] if metrics else []
    named = [key for key in _METRICS if isinstance(rest.get(key), Mapping)]
    sources += named
    for key in named:
        metrics.update(plain(rest.pop(key)))
    for key in ("best_fitness", "fitness", "loss", "val_loss", "train_loss", "best_metric"):
        if isinstance(rest.get(key), int | float) and not isinstance(rest[key], bool):
            metrics[key] = rest.pop(key)
            sources.append(key)
    found.say("metrics", metrics, Known.READ if metrics else Known.UNKNOWN, ", ".join(sources))
    key, config = _take(rest, _CONFIG, _mapping)
    found.say("config", plain(config), Known.READ if key else Known.UNKNOWN, key)
    key, moment = _take(rest, _TIME, _moment)
    if key:
        found.say("saved_at", moment, Known.READ, key)
    _best(found, rest)
    if isinstance(rest.get("session_id"), str):
        run = uuid5(NAMESPACE_URL, f"smartcash-format:session:{rest['session_id']}")
        found.say(
            "run_id", str(run), Known.INFERRED, "session_id: files of one session are one run"
        )


def _epoch(found: Found, rest: dict[str, Any], writer: str) -> None:
    key, epoch = _take(rest, _EPOCH, _count)
    if key and writer in _FROM_ZERO:
        found.say("epoch", epoch + 1, Known.INFERRED, f"{key}: {writer} counts from 0")
    elif key:
        found.say("epoch", epoch, Known.READ, key)
    elif match := _EPOCH_IN_NAME.search(found.source.name):
        found.say("epoch", int(match[1]), Known.INFERRED, "the name of the file")
    else:
        found.say("epoch", 0, Known.UNKNOWN, "the source has none, or says that it ended")


def _best(found: Found, rest: dict[str, Any]) -> None:
    if "is_best" in found.said:
        return
    if isinstance(rest.get("is_best"), bool):
        found.say("is_best", rest.pop("is_best"), Known.READ, "is_best")
    else:
        best = "best" in found.source.stem.lower()
        found.say("is_best", best, Known.INFERRED, "the name of the file")


def _take(rest: dict[str, Any], keys: tuple[str, ...], meaning: Any) -> tuple[str, Any]:
    for key in keys:
        value = meaning(rest.get(key))
        if value is not None:
            del rest[key]
            return key, value
    return "", None


def _count(value: object) -> int | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    # What counts from 0 has one added to it.
    return value if 0 <= value < limits.INTEGER_MAX else None


def _mapping(value: object) -> Any:
    if isinstance(value, Standin):
        return value.attributes
    return value if isinstance(value, Mapping) else None


def _moment(value: object) -> datetime | None:
    """A time as text or seconds since 1970; one without a zone counts as UTC."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
        elif isinstance(value, int | float) and math.isfinite(value) and value > 10**8:
            found = datetime.fromtimestamp(value, UTC)
        else:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _others(found: Found, rest: dict[str, Any]) -> None:
    notes = found.said.setdefault("notes", {})
    for key, value in rest.items():
        name = str(key)

        def drop(why: str, name: str = name) -> None:
            found.dropped.append(f"{name[:_KEY_CHARACTERS]}: {why}")

        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if has_tensors(value):
            if name in {"ema", *found.extra}:
                drop("another state has this name")
            elif isinstance(value, Mapping) and re.fullmatch(r"[\w.-]{1,60}", name):
                found.extra[name] = plain(value)
                found.note(f"extra[{name}]", Known.READ, name)
            else:
                drop("tensors that are no part of a state dict")
        elif value is not None and name in notes:
            drop("another value has this name")
        elif value is not None:
            notes[name] = plain(value)
    found.note("notes", Known.READ if notes else Known.UNKNOWN, ", ".join(sorted(notes))[:200])


def has_tensors(value: object) -> bool:
    """Whether a tensor lies anywhere inside a value."""
    if isinstance(value, Standin):
        value = value.attributes
    if isinstance(value, Mapping):
        return any(has_tensors(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_tensors(item) for item in value)
    return isinstance(value, torch.Tensor)


def plain(value: Any) -> Any:
    """A value for meta.json: a stand-in becomes its attributes, or the name of its class."""
    if isinstance(value, Standin):
        inner = {str(key): plain(item) for key, item in value.attributes.items()}
        return inner or f"<{value.class_name}>"
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value
