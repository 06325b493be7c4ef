"""A whole checkpoint made without torch, by the same writer, rules and commit as every save.

What the fault injection saves thousands of times: weights, an optimizer's torch file, tensors.json
and meta.json, of any size.
"""

from __future__ import annotations

import array
import math
import random
import struct
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from smartcash_format.disk.parts import (
    ArchivePart,
    BlobPart,
    Part,
    StorageSource,
    TensorSource,
    WeightsPart,
    size_of,
)
from smartcash_format.disk.publish import require_space, stage
from smartcash_format.disk.write import WrittenFile, write_parts
from smartcash_format.spec import layout
from smartcash_format.spec.meta import (
    FileRecord,
    Meta,
    OptimizerRecord,
    ParameterGroup,
    WeightSet,
    encode_meta,
)
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors, encode_tensors
from smartcash_format.spec.values import Count
from smartcash_format.spec.watching import Progress

_TENSORS = ("head.bias", "head.weight", "stem.weight")


def sample_name(epoch: int, seed: int = 0) -> str:
    """The name of the directory that `write_sample` is meant to make."""
    return layout.directory_name(epoch=epoch, step=None, checkpoint_id=str(_id(epoch, seed)))


def write_sample(
    root: Path,
    *,
    epoch: int,
    seed: int = 0,
    floats: int = 60,
    saved_at: datetime | None = None,
    progress: Progress | None = None,
) -> Path:
    """Saves a checkpoint of about `floats` * 8 bytes in a root; the same arguments, the same bytes.

    Raises what every save raises: CheckpointExistsError, InsufficientSpaceError,
    CheckpointWriteError.
    """
    return publish_sample(
        root, epoch=epoch, seed=seed, floats=floats, saved_at=saved_at, progress=progress
    )[0]


def publish_sample(
    root: Path,
    *,
    epoch: int,
    seed: int = 0,
    floats: int = 60,
    saved_at: datetime | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Meta]:
    """As `write_sample`, with what its meta.json says: the file may be gone the moment after."""
    chance = random.Random(f"{epoch} {seed}")
    values = {name: _floats(chance, max(1, floats // len(_TENSORS))) for name in _TENSORS}
    parts: list[Part] = [
        WeightsPart(name=layout.weights_file(layout.MODEL), tensors=_sources(values)),
        _optimizer(values),
    ]
    final = root / sample_name(epoch, seed)
    # The two documents are about 2 KB each.
    require_space(root, size_of(parts) + 8192)
    with stage(final) as staged:
        written = write_parts(staged, parts, progress=progress)
        tensors = _tensors(written[0], values)
        manifest = BlobPart(name=layout.TENSORS, data=encode_tensors(tensors))
        written += write_parts(staged, [manifest])
        meta = _meta(written, tensors, epoch=epoch, seed=seed, saved_at=saved_at)
        write_parts(staged, [BlobPart(name=layout.META, data=encode_meta(meta))])
        return staged.publish(), meta


def _id(epoch: int, seed: int) -> uuid.UUID:
    return uuid.UUID(bytes=random.Random(f"{epoch} {seed} id").randbytes(16))


def _floats(chance: random.Random, count: int) -> array.array[float]:
    values = array.array("f", chance.randbytes(4 * min(count, 1024)))
    # Bits that are no number at all become one; a few kilobytes are chance enough.
    values = array.array("f", (v if math.isfinite(v) and abs(v) < 1e9 else 0.5 for v in values))
    values = (values * (count // len(values) + 1))[:count]
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _measure(data: object, sizes: Sequence[int]) -> list[dict[str, float]]:
    return [{"l2": 1.0, "absmax": 1.0} for _ in sizes]


def _sources(values: Mapping[str, array.array[float]]) -> list[TensorSource]:
    return [
        TensorSource(
            name=name,
            dtype="F32",
            shape=(len(data),),
            size_bytes=4 * len(data),
            read=lambda data=data: memoryview(data).cast("B"),  # type: ignore[misc]
            measure=_measure,
        )
        for name, data in values.items()
    ]


def _optimizer(values: Mapping[str, array.array[float]]) -> ArchivePart:
    """The state of an optimizer with one moment a parameter, as torch would have written it."""
    state = b"".join(
        _int(i) + b"}(" + _text("exp_avg") + _tensor(str(i), len(data)) + b"u"
        for i, data in enumerate(values.values())
    )
    groups = b"".join(_int(i) for i in range(len(values)))
    program = (
        b"\x80\x02}(" + _text("state") + b"}(" + state + b"u" + _text("param_groups") + b"](}("
        + _text("lr") + b"G" + struct.pack(">d", 1e-3) + _text("params") + b"](" + groups
        + b"eueu."
    )  # fmt: skip
    storages = [
        StorageSource(
            key=str(i),
            size_bytes=4 * len(data),
            read=lambda data=data: memoryview(data).cast("B"),  # type: ignore[misc]
        )
        for i, data in enumerate(values.values())
    ]
    return ArchivePart(name=layout.OPTIMIZER, program=program, storages=storages)


def _tensor(key: str, count: int) -> bytes:
    storage = (
        b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu")
        + _int(count) + b"tQ"
    )  # fmt: skip
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _int(0) + _int(count) + b"\x85"
        + _int(1) + b"\x85" + b"\x89" + b"ccollections\nOrderedDict\n)R" + b"tR"
    )  # fmt: skip


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _tensors(weights: WrittenFile, values: Mapping[str, array.array[float]]) -> Tensors:
    records = {
        name: TensorRecord(
            dtype="F32",
            shape=[len(data)],
            file=weights.name,
            digest=weights.tensors[name].digest,
            l2=weights.tensors[name].statistics["l2"],
            absmax=weights.tensors[name].statistics["absmax"],
        )
        for name, data in values.items()
    }
    return Tensors(
        weights={layout.MODEL: WeightSetTensors(tensors=records)},
        optimizer_groups={"optimizer": [list(values)]},
    )


def _meta(
    written: list[WrittenFile],
    tensors: Tensors,
    *,
    epoch: Count,
    seed: int,
    saved_at: datetime | None,
) -> Meta:
    model = tensors.weights[layout.MODEL]
    count = sum(record.shape[0] for record in model.tensors.values())
    return Meta(
        checkpoint_id=str(_id(epoch, seed)),
        run_id=str(_id(0, seed)),
        saved_at=saved_at or datetime.now(UTC),
        epoch=epoch,
        is_best=False,
        metrics={"val_loss": 1.0 / epoch if epoch else 1.0},
        weights={
            layout.MODEL: WeightSet(
                class_name="Sample",
                tensors=len(model.tensors),
                parameters=count,
                trainable_parameters=count,
                dtypes={"F32": len(model.tensors)},
                weights_digest=model.weights_digest,
                finite=True,
            )
        },
        optimizer=OptimizerRecord(
            class_name="Sample",
            groups=[ParameterGroup(parameters=len(model.tensors), hyperparameters={"lr": 1e-3})],
        ),
        files={
            file.name: FileRecord(
                role=layout.role_of(file.name)[0], size_bytes=file.size_bytes, digest=file.digest
            )
            for file in written
        },
    )
