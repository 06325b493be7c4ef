"""Plain safetensors files and directories, sharded too, and Trainer's `checkpoint-N/`."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from smartcash_format.errors import CheckpointNotFoundError, UnsafeCheckpointError
from smartcash_format.integrations.foreign_json import document_of, read_json
from smartcash_format.integrations.found import Found, Known
from smartcash_format.integrations.legacy_pt import read_torch_file
from smartcash_format.integrations.mapped import MappedFile
from smartcash_format.integrations.trainer import read_trainer_state
from smartcash_format.integrations.training_files import plain
from smartcash_format.spec import layout
from smartcash_format.spec.header import METADATA, read_header
from smartcash_format.spec.header_entry import TensorInfo
from smartcash_format.torch_io.dtypes import TORCH_DTYPES, torch_shape

_INDEX_SUFFIX: Final = ".index.json"
_SAFE: Final = "model.safetensors"
_PICKLED: Final = "pytorch_model.bin"
_CONFIG: Final = "config.json"


def is_weights_directory(path: Path) -> bool:
    """Whether a directory has weights as Hugging Face names them: then it is one source."""
    names = {each.name for each in path.iterdir()}
    pickled = {_PICKLED, _PICKLED + _INDEX_SUFFIX}
    return bool(names & pickled) or any(name.endswith(layout.WEIGHTS_SUFFIX) for name in names)


def read_file(path: Path) -> Found:
    """A plain safetensors file, its tensors mapped."""
    found = Found(source=path, kind="a safetensors file", files=[path])
    found.model = _weights(found, [path], {})
    found.note("model", Known.READ, path.name)
    for part in ("optimizer", "scheduler", "config", "metrics"):
        found.note(part, Known.UNKNOWN, "the source has none")
    return found


def read_directory(path: Path, *, allow: Sequence[str] = ()) -> Found:
    """A directory with weights as Hugging Face names them: a model, or a Trainer's checkpoint.

    Raises CheckpointNotFoundError where there are none, or where a shard is absent;
    UnsafeCheckpointError where an index cannot be read or does not tell of its shards.
    """
    found = Found(source=path, kind="a safetensors directory")
    files, places, index = _weight_files(path)
    if files[0].suffix != layout.WEIGHTS_SUFFIX:
        found.kind = "a directory of pickled weights"
    found.model = _weights(found, files, places, allow)
    found.note("model", Known.READ, ", ".join(file.name for file in files)[:200])
    found.files += [*files, *index]
    # The directory's own time is that of its last copying.
    newest = max(files, key=lambda file: file.stat().st_mtime)
    moment = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    found.say("saved_at", moment, Known.INFERRED, f"when {newest.name} was last changed")
    config = document_of(found, path / _CONFIG)
    found.say("config", config, Known.READ if config else Known.UNKNOWN, _CONFIG)
    for part, file in (("optimizer", layout.OPTIMIZER), ("scheduler", layout.SCHEDULER)):
        if (path / file).is_file():
            data = read_torch_file(path / file, allow=allow)
            found.mapped.append(data.mapped)
            found.dropped += [f"{file}: {line}" for line in data.dropped]
            setattr(found, part, plain(data.value))
            found.note(part, Known.READ, file)
            found.files.append(path / file)
        else:
            found.note(part, Known.UNKNOWN, "the source has none")
    read_trainer_state(found, path)
    said = {line.partition(":")[0] for line in found.dropped} | {file.name for file in found.files}
    rest = sorted(each.name for each in path.iterdir() if each.name not in said)
    found.dropped += [f"{name}: stays where it is" for name in rest]
    return found


def _weight_files(path: Path) -> tuple[list[Path], Mapping[str, str], list[Path]]:
    """The files of the weights, the file of each tensor where an index tells it, and the index."""
    for main in (_SAFE, _PICKLED):
        index = path / (main + _INDEX_SUFFIX)
        if index.is_file():
            places = _places(index)
            return [path / name for name in sorted(set(places.values()))], places, [index]
        if (path / main).is_file():
            return [path / main], {}, []
    files = sorted(path.glob(f"*{layout.WEIGHTS_SUFFIX}"))
    if len(files) != 1:
        raise CheckpointNotFoundError(
            f"{path} has {len(files)} safetensors files and no {_SAFE}{_INDEX_SUFFIX}: name one",
            root=path,
        )
    return files, {}, []


def _places(index: Path) -> Mapping[str, str]:
    document, why = read_json(index)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places:
        raise _refused(index, why or "has no weight_map")
    for name in set(map(str, places.values())):
        if Path(name).name != name:
            raise _refused(index, f"names {name!r:.100}, which is no file beside it")
        if not (index.parent / name).is_file():
            message = f"{index.parent.name}: the index names {name!r:.100}, which is not there"
            raise CheckpointNotFoundError(message, root=index.parent)
    return {tensor: str(name) for tensor, name in places.items()}


def _weights(
    found: Found, files: Sequence[Path], places: Mapping[str, str], allow: Sequence[str] = ()
) -> OrderedDict[str, torch.Tensor]:
    """The tensors of all shards, each in one and, where an index tells it, in the one it tells."""
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for file in files:
        safe = file.suffix == layout.WEIGHTS_SUFFIX
        tensors = _mapped(found, file) if safe else _pickled(found, file, allow)
        if twice := sorted(state.keys() & tensors.keys()):
            raise _refused(file, f"has the tensor {twice[0]!r:.100}, and an earlier shard too")
        told = {tensor for tensor, name in places.items() if name == file.name}
        if lost := sorted(told - tensors.keys()):
            raise _refused(file, f"has no tensor {lost[0]!r:.100}, which the index says it has")
        state.update(tensors)
    return state


def _mapped(found: Found, file: Path) -> Mapping[str, torch.Tensor]:
    with file.open("rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        header, problems = read_header(stream, size_bytes, where=file.name)
        if header is None:
            raise _refused(file, problems[0].message)
        mapped = MappedFile(file, stream)
        found.mapped.append(mapped)
        tensors = {
            name: _tensor(file, name, header.data_start, info, mapped)
            for name, info in header.tensors.items()
        }
    if header.metadata.keys() - METADATA:
        notes = found.said.setdefault("notes", {})
        notes[f"{file.name}: metadata"] = dict(header.metadata)
        found.note("notes", Known.READ, "the metadata of the file")
    return tensors


def _tensor(
    file: Path, name: str, start: int, info: TensorInfo, mapped: MappedFile
) -> torch.Tensor:
    dtype = TORCH_DTYPES.get(info.dtype)
    shape = torch_shape(info.dtype, info.shape)
    if dtype is None or shape is None:
        raise _refused(file, f"has {name!r:.100} in {info.dtype}, which torch has not")
    if not info.size_bytes:
        return torch.empty(shape, dtype=dtype, device="cpu")
    data = mapped.numbers(start + info.begin, info.size_bytes, dtype.itemsize)
    return data.view(dtype).reshape(shape)


def _pickled(found: Found, file: Path, allow: Sequence[str]) -> Mapping[str, torch.Tensor]:
    data = read_torch_file(file, allow=allow)
    found.mapped.append(data.mapped)
    found.dropped += data.dropped
    if not isinstance(data.value, Mapping):
        raise _refused(file, f"holds {type(data.value).__name__}, no state dict")
    tensors = {k: v for k, v in data.value.items() if isinstance(v, torch.Tensor)}
    rest = sorted(str(key) for key in data.value.keys() - tensors.keys())
    found.dropped += [f"{file.name}: {key}: is no tensor" for key in rest]
    return tensors


def _refused(file: Path, why: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{file.name} was not read: it {why}", path=file, file=file.name, first_refused=why
    )
