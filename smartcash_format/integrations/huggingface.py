"""Plain safetensors files and directories, sharded too, and Trainer's `checkpoint-N/`."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open

from smartcash_format.errors import CheckpointNotFoundError, UnsafeCheckpointError
from smartcash_format.integrations.found import Found, Known
from smartcash_format.integrations.legacy_pt import read_torch_file
from smartcash_format.integrations.training_files import plain
from smartcash_format.spec import layout

_INDEX: Final = "model.safetensors.index.json"
_TRAINER: Final = "trainer_state.json"
_STEP_IN_NAME: Final = re.compile(r"checkpoint-([0-9]{1,15})")
# An index of a model with 100,000 tensors has a tenth of it; so has a long training's log.
JSON_BYTES: Final = 64 << 20


def is_weights_directory(path: Path) -> bool:
    """Whether a directory has safetensors files: then it is one source."""
    return any(each.suffix == layout.WEIGHTS_SUFFIX for each in path.iterdir())


def read_file(path: Path) -> Found:
    """A plain safetensors file, its tensors mapped."""
    found = Found(source=path, kind="a safetensors file")
    found.model = _tensors([path])
    found.note("model", Known.READ, path.name)
    for part in ("optimizer", "scheduler", "config", "metrics"):
        found.note(part, Known.UNKNOWN, "the source has none")
    return found


def read_directory(path: Path, *, allow: Sequence[str] = ()) -> Found:
    """A directory with safetensors files: a model, or a Trainer's checkpoint.

    Raises CheckpointNotFoundError where there is none, or where a shard is absent.
    """
    found = Found(source=path, kind="a safetensors directory")
    files = _weight_files(path)
    found.model = _tensors(files)
    found.note("model", Known.READ, ", ".join(file.name for file in files)[:200])
    # The directory's own time is that of its last copying.
    newest = max(files, key=lambda file: file.stat().st_mtime)
    moment = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    found.say("saved_at", moment, Known.INFERRED, f"when {newest.name} was last changed")
    taken = {*(file.name for file in files), _INDEX}
    config = _json(path / "config.json")
    found.say("config", config, Known.READ if config else Known.UNKNOWN, "config.json")
    taken |= {"config.json"} if config else set()
    for part, file in (("optimizer", layout.OPTIMIZER), ("scheduler", layout.SCHEDULER)):
        if (path / file).is_file():
            setattr(found, part, plain(read_torch_file(path / file, allow=allow).value))
            found.note(part, Known.READ, file)
            taken.add(file)
        else:
            found.note(part, Known.UNKNOWN, "the source has none")
    if _trainer(found, path):
        taken.add(_TRAINER)
    rest = sorted(each.name for each in path.iterdir() if each.name not in taken)
    found.dropped += [f"{name}: stays where it is" for name in rest]
    return found


def _weight_files(path: Path) -> list[Path]:
    index = _json(path / _INDEX)
    if isinstance(index, dict) and isinstance(index.get("weight_map"), dict):
        names = sorted(set(map(str, index["weight_map"].values())))
        for name in names:
            if Path(name).name != name or not (path / name).is_file():
                message = f"{path.name}: the index names {name!r:.100}, which is not there"
                raise CheckpointNotFoundError(message, root=path)
        return [path / name for name in names]
    files = sorted(path.glob("*.safetensors"))
    main = [file for file in files if file.name == "model.safetensors"]
    chosen = main or files
    if len(chosen) != 1:
        raise CheckpointNotFoundError(
            f"{path} has {len(chosen)} safetensors files and no {_INDEX}: name the one", root=path
        )
    return chosen


def _tensors(files: Sequence[Path]) -> OrderedDict[str, torch.Tensor]:
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - no mapping
                    state[name] = weights.get_tensor(name)
        except SafetensorError as error:
            raise UnsafeCheckpointError(
                f"{file.name} is no safetensors file: {error}",
                path=file,
                file=file.name,
                first_refused="header",
            ) from error
    return state


def _trainer(found: Found, path: Path) -> bool:
    state = _json(path / _TRAINER)
    if not isinstance(state, dict):
        match = _STEP_IN_NAME.fullmatch(path.name)
        if match:
            found.say("step", int(match[1]), Known.INFERRED, "the name of the directory")
        return False
    found.kind = "a Trainer checkpoint"
    if isinstance(state.get("global_step"), int):
        found.say("step", state["global_step"], Known.READ, f"{_TRAINER}: global_step")
    epoch = state.get("epoch")
    if isinstance(epoch, int | float):
        how = Known.READ if float(epoch).is_integer() else Known.INFERRED
        found.say("epoch", int(epoch), how, f"{_TRAINER}: epoch is {epoch}")
    log = state.get("log_history")
    metrics: dict[str, Any] = {}
    for line in log if isinstance(log, list) else ():
        if isinstance(line, dict) and line.get("step") == state.get("global_step"):
            metrics.update({k: v for k, v in line.items() if k not in ("step", "epoch")})
    found.say("metrics", metrics, Known.READ, f"{_TRAINER}: log_history")
    best = state.get("best_model_checkpoint")
    is_best = isinstance(best, str) and re.split(r"[/\\]", best)[-1] == path.name
    found.say("is_best", is_best, Known.READ, f"{_TRAINER}: best_model_checkpoint")
    return True


def _json(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > JSON_BYTES:
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None
