"""Hostile files of every class that is known, put together here: nothing of a stranger's is kept.

A pickle of each program, in each container that a program can hide in.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from tests.contract.torch_files import archive, opcodes

# What has been used to run code from a pickle: by itself, or by leading on to something else.
CALLS: Final = (
    "os system", "posix system", "nt system", "os popen", "os execv", "subprocess Popen",
    "subprocess check_output", "builtins eval", "builtins exec", "builtins compile",
    "builtins getattr", "builtins __import__", "builtins open", "__builtin__ eval",
    "__builtin__ apply", "runpy run_path", "runpy _run_code", "importlib import_module",
    "webbrowser open", "socket create_connection", "requests.api get", "urllib.request urlopen",
    "shutil rmtree", "sys setprofile", "numpy load", "torch load", "torch.serialization load",
    "torch.hub load", "torch._inductor.codecache _ensure_load", "torch.jit._script load",
    "numpy.testing._private.utils runstring", "numpy.f2py.crackfortran getlincoef",
    "pip main", "pip._internal main", "cProfile run", "cProfile runctx", "profile run",
    "pdb run", "bdb Bdb.run", "timeit timeit", "trace Trace.run", "doctest debug_script",
    "idlelib.run Executive", "idlelib.autocomplete AutoComplete.get_entity",
    "lib2to3.pgen2.pgen ParserGenerator.make_label", "lib2to3.pgen2.grammar Grammar.loads",
    "code InteractiveInterpreter.runcode", "codeop compile_command", "ctypes CDLL",
    "ctypes.util find_library", "types FunctionType", "types CodeType", "marshal loads",
    "pickle loads", "_pickle loads", "joblib load", "dill loads", "cloudpickle loads",
    "operator attrgetter", "operator methodcaller", "functools partial", "functools reduce",
    "_operator methodcaller", "asyncio.unix_events _UnixSubprocessTransport._start",
    "distutils.file_util write_file", "logging.config valid_ident",
    "multiprocessing.util spawnv_passfds", "venv create", "ensurepip _run_pip",
    "uuid _get_command_stdout", "imaplib IMAP4_stream",
    "pydoc pipepager", "pty spawn", "commands getoutput", "collections Counter.update",
)  # fmt: skip
_ARGUMENT: Final = opcodes("echo hello")


def _global(call: str) -> bytes:
    return b"c" + call.replace(" ", "\n").encode() + b"\n"


def _text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def reduced(call: str) -> bytes:
    """The call as every pickle makes one."""
    return b"\x80\x02" + _global(call) + b"(" + _ARGUMENT + b"tR."


def stacked(call: str) -> bytes:
    """The same with the name taken from the stack."""
    module, name = call.split()
    return b"\x80\x04" + _text(module) + _text(name) + b"\x93(" + _ARGUMENT + b"tR."


# Other ways to one call, and what else readers of pickles have been led astray by.
def programs() -> Iterator[tuple[str, bytes]]:
    """Hostile programs, by what is peculiar in them."""
    for call in CALLS:
        yield f"reduce-{call}", reduced(call)
        yield f"stack-{call}", stacked(call)
    system = "posix system"
    called = _global(system) + b"(" + _ARGUMENT + b"tR"
    yield "inst", b"(" + _ARGUMENT + b"iposix\nsystem\n."
    yield "obj", b"(" + _global(system) + _ARGUMENT + b"o."
    yield "newobj", b"\x80\x02" + _global(system) + b"(" + _ARGUMENT + b"t\x81."
    yield "newobj-ex", b"\x80\x04" + _global(system) + b"(" + _ARGUMENT + b"t}\x92."
    yield "build", b"\x80\x02" + _global("collections OrderedDict") + b")R" + called + b"b."
    yield "stack-from-memo", (
        b"\x80\x04" + _text("posix") + b"\x94" + _text("system") + b"\x940h\x00h\x01\x93("
        + _ARGUMENT + b"tR."
    )  # fmt: skip
    yield "stack-duplicated", b"\x80\x04" + _text("os") + b"2" + b"0" + _text("system") + b"\x93)R."
    yield "extension", b"\x80\x02\x82\x01)R."
    yield "extension-of-four-bytes", b"\x80\x02\x84\x01\x00\x00\x00)R."
    yield "persistent-text", b"Pposix system\n."
    yield "persistent-call", b"\x80\x02" + called + b"Q."
    yield "broken-behind-the-call", b"\x80\x02" + called + b"\xff\xff"
    yield "no-end-behind-the-call", b"\x80\x02" + called
    yield "second-stream", pickle.dumps({"w": 1}, 2) + reduced(system)
    yield "third-stream", pickle.dumps(1, 2) * 2 + stacked(system)
    yield "frame-over-the-call", b"\x80\x04\x95" + struct.pack("<Q", 3) + called + b"."
    yield "protocol-0", b"cos\nsystem\n(S'echo hello'\ntR."
    yield "unicode-name", b"cposix\nsyst\xc3\xa9m\n(" + _ARGUMENT + b"tR."
    yield "in-bytes", b"\x80\x03C" + bytes([len(reduced(system))]) + reduced(system) + b"."
    yield "as-a-key", b"\x80\x02}" + called + b"K\x01s."
    yield (
        "as-a-tensor-hook",
        b"\x80\x02" + _global("torch._utils _rebuild_tensor_v2") + called + b"\x85R.",
    )


def containers(program: bytes) -> Iterator[tuple[str, bytes]]:
    """A program in everything that may hold one, by the ending of its name."""
    yield "torch.pt", archive(program, {})
    yield "bare.bin", program
    yield "bare.pkl", program
    yield "deflated.pt", _zip({"archive/data.pkl": program}, zipfile.ZIP_DEFLATED)
    sound = archive(pickle.dumps({"w": 1}, 2), {})
    yield "behind.pt", sound + program
    yield "before.pt", program + sound
    yield "beside.pt", archive(pickle.dumps({"w": 1}, 2), {}, **{"data/evil.pkl": program})
    yield "two.pt", archive(pickle.dumps({"w": 1}, 2), {}, **{"x/data.pkl": program})
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    head = b"".join(pickle.dumps(part, 2) for part in parts)
    yield "legacy.pt", head + program + pickle.dumps([], 2)
    yield "legacy-first.pt", program + head + pickle.dumps({}, 2) + pickle.dumps([], 2)
    yield "legacy-behind.pt", head + pickle.dumps({}, 2) + pickle.dumps([], 2) + program
    for flag in (0x1, 0x20, 0x40):
        yield f"flag-{flag:x}.pt", _flagged(sound if flag > 1 else archive(program, {}), flag)
    yield "misnamed.pt", archive(program, {}).replace(b"data.pkl", b"data.pk0", 1)
    yield "compressed.joblib", zlib.compress(program)
    yield "tar.pt", _tar({"pickle": program, "tensors": program, "storages": program})
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    yield "object.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + program


def files() -> Iterator[tuple[str, bytes]]:
    """Every program, bare; those of each way also in every container."""
    for name, program in programs():
        label = name.replace(" ", ".")
        if name.startswith(("reduce-", "stack-")) and name not in _EVERYWHERE:
            yield f"{label}.torch.pt", archive(program, {})
            yield f"{label}.bare.pkl", program
        else:
            for container, data in containers(program):
                yield f"{label}.{container}", data


_EVERYWHERE: Final = ("reduce-posix system", "stack-posix system", "reduce-builtins eval")


def _zip(records: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, data in records.items():
            made.writestr(name, data)
    return stream.getvalue()


def _flagged(data: bytes, flag: int) -> bytes:
    """A flag set in the directory's first entry: some readers then look no further."""
    at = data.index(b"PK\x01\x02") + 8
    flags = struct.unpack("<H", data[at : at + 2])[0] | flag
    return data[:at] + struct.pack("<H", flags) + data[at + 2 :]


def _tar(records: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, data in records.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
