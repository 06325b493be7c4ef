from __future__ import annotations

import math
import pickle
import struct
from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec.pickles import TensorRef
from tests.spec.programs import program, read, refused, value_of
from tests.spec.torch_files import (
    COUNTER,
    ORDERED_DICT,
    PROTO,
    REBUILD,
    STOP,
    file_of,
    integer,
    scan,
    sequence,
    storage,
    tensor,
    text,
)

# ---------------------------------------------------------------------------------- plain data

PLAIN = {
    "state": {0: {"step": 1, "lr": 1e-3}, 1: {}},
    "param_groups": [{"betas": (0.9, 0.999), "eps": 1e-8, "fused": None, "params": [0, 1]}],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "numbers": [0, 255, 256, 65535, 65536, -1, 2**31, -(2**31), 2**63, -(2**1023), 2**1023],
    "floats": [0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324],
    "text": ["", "é😀\0", "x" * 70_000],
    "flags": [True, False, None],
    (1, "a", None, True, 2.5): "a tuple as a key",
    None: 1,
    2.5: 2,
}


def test_plain_data_comes_out_as_it_went_in() -> None:
    found, problems = read(program(PLAIN))
    assert problems == ()
    assert found is not None
    assert repr(found.value) == repr(PLAIN)
    assert found.globals == frozenset()


def test_ordered_dicts_and_counters_come_out_as_dicts() -> None:
    state = {"milestones": Counter([30, 80, 80]), "state": OrderedDict(b=1, a=OrderedDict())}
    found, problems = read(program(state))
    assert problems == ()
    assert found is not None
    assert found.value == {"milestones": {30: 1, 80: 2}, "state": {"b": 1, "a": {}}}
    assert type(found.value["milestones"]) is type(found.value["state"]) is dict
    assert found.globals == {"collections.Counter", "collections.OrderedDict"}


def test_a_counter_is_a_copy_of_its_dict() -> None:
    # {}, memo 0, Counter(memo 0), then an item into memo 0: (counter, dict)
    both = PROTO + b"}q\x00" + COUNTER + b"(h\x00tRh\x00" + text("a") + b"K\x01s\x87." + STOP
    assert refused(both).code == "pickle-structure"
    both = PROTO + b"(}q\x00" + COUNTER + b"h\x00\x85Rh\x00" + text("a") + b"K\x01st" + STOP
    assert value_of(both) == ({"a": 1}, {}, {"a": 1})


def test_shared_containers_stay_shared() -> None:
    betas = (0.9, 0.999)
    milestones = [30, 80]
    found = value_of(
        program([{"betas": betas, "m": milestones}, {"betas": betas, "m": milestones}])
    )
    assert found[0]["betas"] is found[1]["betas"]
    assert found[0]["m"] is found[1]["m"]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**1023), 2**1023)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(-(2**62), 2**62) | st.tuples(st.text()), inner)
    ),
    max_leaves=30,
)


@given(plain)
def test_whatever_pickle_writes_of_plain_data_is_read(value: object) -> None:
    assert value_of(program(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_answered_with_findings(data: bytes) -> None:
    found, problems = read(PROTO + data)
    assert (found is None) == bool(problems)


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["set", "drop", "insert"]))
def test_a_damaged_program_is_answered_with_findings(at: int, value: int, edit: str) -> None:
    data = bytearray(program(PLAIN | {"text": ""}))
    at %= len(data)
    data[at : at + (edit != "insert")] = b"" if edit == "drop" else bytes([value])
    found, problems = read(bytes(data))
    assert (found is None) == bool(problems)
    if found is not None:
        # What passes here, Python's own machine reads to the same value.
        assert repr(pickle.loads(bytes(data))) == repr(found.value)


def test_a_program_cut_anywhere_is_refused() -> None:
    whole = program(PLAIN | {"text": "é"})
    for size in range(len(whole)):
        assert refused(whole[:size]).code in {"pickle-structure", "pickle-opcode", "pickle-global"}


@pytest.mark.parametrize("end", [b"h\0", b"h\0((", b"}", b"}r"])
def test_a_program_that_ends_where_a_tensor_or_an_entry_is_due_is_refused(end: bytes) -> None:
    # A search that has come to the end has to know that nothing is left to find there.
    assert refused(PROTO + REBUILD + b"q\0" + end).code == "pickle-structure"


# ------------------------------------------------------------------------------------- attacks


class _Calls:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def test_no_name_outside_the_allow_list_is_taken() -> None:
    import os

    for attack, named in [
        (program(_Calls(os.system, ("true",))), "posix.system"),
        (program([_Calls(eval, ("1",))]), "__builtin__.eval"),
        (program(_Calls(getattr, (1, "real"))), "__builtin__.getattr"),
        (program(_Calls(bytearray, (1 << 30,))), "__builtin__.bytearray"),
        (program(b"bytes"), "_codecs.encode"),
        (program({1, 2}), "__builtin__.set"),
        (program(1j), "__builtin__.complex"),
        (PROTO + b"cos\nsystem\n(X\x04\0\0\0truetR.", "os.system"),
        (PROTO + b"ctorch\nUntypedStorage\n.", "torch.UntypedStorage"),
        (
            PROTO + b"ctorch._utils\n_rebuild_sparse_tensor\n.",
            "torch._utils._rebuild_sparse_tensor",
        ),
        (PROTO + b"ctorch._utils\n_rebuild_parameter\n.", "torch._utils._rebuild_parameter"),
        (PROTO + b"ccollections\nOrderedDict.__init__\n.", "collections.OrderedDict.__init__"),
        (PROTO + b"ctorch.\nFloatStorage\n.", "torch..FloatStorage"),
        (PROTO + b"c\xff\x1b[2J\nx\n.", "\ufffd\\x1b[2J.x"),
    ]:
        problem = refused(attack)
        assert (problem.code, problem.found) == ("pickle-global", named)


def test_a_name_without_an_end_is_refused() -> None:
    assert refused(PROTO + b"c" + b"a" * 10_000 + b"\nb\n.").code == "pickle-global"
    assert refused(PROTO + b"cos").code == "pickle-global"


@pytest.mark.parametrize(
    ("opcodes", "named"),
    [
        (b"(ios\nsystem\n.", "INST"),
        (b"(cos\nsystem\no.", "OBJ"),
        (ORDERED_DICT + b")R}b.", "BUILD"),
        (ORDERED_DICT + b")\x81.", "NEWOBJ"),
        (ORDERED_DICT + b")}\x92.", "NEWOBJ_EX"),
        (b"\x8c\x02os\x8c\x06system\x93.", "0x8c"),
        (b"X\x02\0\0\0osX\x06\0\0\0system\x93.", "STACK_GLOBAL"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\0.", "EXT2"),
        (b"\x84\x01\0\0\0.", "EXT4"),
        (b"N0N.", "POP"),
        (b"(1N.", "POP_MARK"),
        (b"N2t.", "0x32"),
        (b"P0\n.", "0x50"),
        (b"\x8f.", "EMPTY_SET"),
        (b"(\x91.", "FROZENSET"),
        (b"\x96\0\0\0\x40\0\0\0\0.", "BYTEARRAY8"),
        (b"B\xff\xff\xff\x7f.", "BINBYTES"),
        (b"C\x01a.", "SHORT_BINBYTES"),
        (b"\x80\x02N.", "PROTO"),
        (b"\x95\x01\0\0\0\0\0\0\0N.", "0x95"),
        (b"I1\n.", "0x49"),
        (b"U\x01a.", "0x55"),
        (b"V1\n.", "0x56"),
        (b"\x8b\x01\0\0\0\x01.", "LONG4"),
    ],
)
def test_opcodes_that_states_do_not_need_are_refused(opcodes: bytes, named: str) -> None:
    problem = refused(PROTO + opcodes)
    if named in {"INST", "OBJ"}:
        assert problem.code in {"pickle-opcode", "pickle-global"}
        return
    assert (problem.code, problem.found) == ("pickle-opcode", named)


def test_every_other_opcode_is_refused() -> None:
    known = b"N\x88\x89)]}KMJ\x8aGX(t\x85\x86\x87aesuhjqrcQR."
    for opcode in set(range(256)) - set(known):
        assert refused(PROTO + bytes([opcode]) + b"." * 9).code == "pickle-opcode"


def test_only_protocol_2_is_read() -> None:
    for protocol in (0, 1, 3, 4, 5):
        assert refused(pickle.dumps({"a": 1}, protocol=protocol)).code == "pickle-opcode"
    assert refused(b"").code == "pickle-opcode"


def test_a_second_program_is_refused() -> None:
    one, two = program({"a": 1}), program(_Calls(eval, ("1",)))
    assert refused(one + two).code == "pickle-structure"
    assert refused(one + b"\0").code == "pickle-structure"


def test_a_program_within_a_program_is_text_and_stays_text() -> None:
    inner = program(_Calls(eval, ("1",))).decode("latin-1")
    assert value_of(program({"a": inner})) == {"a": inner}


@pytest.mark.parametrize(
    ("opcodes", "code"),
    [
        (b"", "pickle-structure"),
        (b".", "pickle-structure"),
        (b"NN.", "pickle-structure"),
        (b"(N.", "pickle-structure"),
        (b"(.", "pickle-structure"),
        (b"t.", "pickle-structure"),
        (b"N\x86.", "pickle-structure"),
        (b"(N\x86t.", "pickle-structure"),
        (b"h\x00.", "pickle-structure"),
        (b"j\xff\xff\xff\xff.", "pickle-structure"),
        (b"Nq\x01.", "pickle-structure"),
        (b"Nr\xff\xff\xff\xff.", "pickle-structure"),
        (b"Nq\x00q\x00.", "pickle-structure"),
        (b"q\x00N.", "pickle-structure"),
        (b"NNa.", "pickle-structure"),
        (b")Na.", "pickle-structure"),
        (b"}Na.", "pickle-structure"),
        (b"N(Ne.", "pickle-structure"),
        (b"NK\x01K\x02s.", "pickle-structure"),
        (b"]K\x01K\x02s.", "pickle-structure"),
        (b"}(K\x01u.", "pickle-structure"),
        (b"}(K\x01K\x02K\x01K\x03u.", "pickle-structure"),
        (b"}(K\x01K\x02\x88K\x03u.", "pickle-structure"),
        (b"}]Ns.", "pickle-structure"),
        (b"}}Ns.", "pickle-structure"),
        (b"}(]tNs.", "pickle-structure"),
        (b"})\x85Ns.", "pickle-structure"),
        (b"}" + COUNTER + b"Ns.", "pickle-structure"),
        (b"X\xff\xff\xff\xffabc.", "pickle-structure"),
        (b"X\x02\0\0\0\xed\xa0.", "pickle-structure"),
        (b"X\x03\0\0\0\xed\xa0\x80.", "pickle-structure"),
        (b"G\0\0.", "pickle-structure"),
        (b"J\0.", "pickle-structure"),
        (b"M\0", "pickle-structure"),
        (b"\x8a\x05\x01.", "pickle-structure"),
        (COUNTER + b".", "pickle-structure"),
        (b"]" + COUNTER + b"a.", "pickle-structure"),
        (b"NN\x86R.", "pickle-structure"),
        (b"N)R.", "pickle-structure"),
        (b"])R.", "pickle-structure"),
        (ORDERED_DICT + b"]R.", "pickle-structure"),
        (ORDERED_DICT + b"]\x85R.", "pickle-structure"),
        (COUNTER + b")R.", "pickle-structure"),
        (COUNTER + b"]\x85R.", "pickle-structure"),
        (COUNTER + b"}}\x86R.", "pickle-structure"),
        (b"ctorch\nFloatStorage\n)R.", "pickle-structure"),
        (b"NQ.", "pickle-tensor"),
        (b"K\x00Q.", "pickle-tensor"),
        (b")Q.", "pickle-tensor"),
        (b"}K\x01" + integer(1 << 63) + b"s.", None),
        (b"}" + integer(1 << 63) + b"K\x01s.", "pickle-bounds"),
        (b"}" + integer((1 << 63) - 1) + b"K\x01s.", None),
        (b"}(" + integer(1 << 63) + b"tK\x01s.", "pickle-bounds"),
        (integer((1 << 1024) - 1) + b".", None),
        (integer(1 << 1024) + b".", "pickle-bounds"),
        (integer(-(1 << 1023)) + b".", None),
    ],
)
def test_programs_that_no_pickler_writes_are_refused(opcodes: bytes, code: str | None) -> None:
    found, problems = read(PROTO + opcodes)
    assert [problem.code for problem in problems] == ([code] if code else [])
    assert (found is None) == bool(problems)


def test_cycles_are_refused() -> None:
    own: list[Any] = []
    own.append(own)
    mutual: dict[str, Any] = {"a": [{}]}
    mutual["a"][0]["b"] = mutual
    for cycle in (own, mutual, [own], {"a": (own,)}):
        assert refused(program(cycle)).code == "pickle-structure"
    assert refused(program((own,))).message == "has a container that holds itself"


def test_names_and_storages_are_no_values() -> None:
    for left in (storage(), b"ctorch\nFloatStorage\n", REBUILD, ORDERED_DICT):
        for made in (left, b"]" + left + b"a", left + b"\x85", b"}" + text("a") + left + b"s"):
            problem = refused(PROTO + made + STOP, _0=4)
            assert problem.code == "pickle-structure"


def test_a_file_gives_its_value_names_and_storages() -> None:
    made = b"}" + text("step") + tensor(storage()) + b"s"
    file, problems = scan(file_of(PROTO + made + STOP, {"0": struct.pack("<f", 1.0)}))
    assert problems == ()
    assert file is not None
    assert file.value == {"step": TensorRef("F32", (), (), 0, "0", 1)}
    assert file.storages["0"].size_bytes == 4
    assert file.globals == {
        "torch.FloatStorage",
        "torch._utils._rebuild_tensor_v2",
        "collections.OrderedDict",
    }


def test_sequences_of_many_integers_are_read() -> None:
    assert value_of(PROTO + sequence(range(-300, 300)) + STOP) == tuple(range(-300, 300))
