from __future__ import annotations

import math
import pickle
import struct
from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import limits
from smartcash_format.spec.keys import MAPPINGS, SETS
from smartcash_format.spec.pickles import Program, TensorRef, read_program
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.tensor_refs import STORAGE_TYPES
from tests.costs import SOON, measured
from tests.spec.torch_files import (
    COUNTER,
    ORDERED_DICT,
    PROTO,
    REBUILD,
    STOP,
    code_of,
    file_of,
    integer,
    scan,
    sequence,
    storage,
    tensor,
    text,
)

WHERE = "optimizer.pt: data.pkl"


def read(program: bytes, **sizes: int) -> tuple[Program | None, tuple[Problem, ...]]:
    storages = {name.removeprefix("_"): size for name, size in sizes.items()}
    return read_program(program, where=WHERE, storages=storages)


def refused(program: bytes, **sizes: int) -> Problem:
    found, problems = read(program, **sizes)
    assert found is None
    (problem,) = problems
    assert problem.where == WHERE
    assert problem.message.isprintable()
    return problem


def value_of(program: bytes, **sizes: int) -> Any:
    found, problems = read(program, **sizes)
    assert problems == ()
    assert found is not None
    return found.value


def program(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)


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


def test_shared_containers_are_counted_each_time_they_are_reached() -> None:
    level: Any = ["lol"] * 10
    for _ in range(12):
        level = [level] * 10
    assert len(program(level)) < 1_000
    assert refused(program(level)).code == "pickle-bounds"
    level = {"a": 1}
    for _ in range(40):
        level = {"a": level, "b": level}
    assert refused(program(level)).code == "pickle-bounds"
    level = ()
    for _ in range(40):
        level = (level, level)
    assert refused(program(level)).code == "pickle-bounds"


@pytest.mark.no_cover
@pytest.mark.attack("large", "a large dict or its like that is shared often", "pickle-bounds")
@pytest.mark.parametrize("shared", ["dict in a list", "dict in lists", "members", "no pairs"])
def test_what_is_shared_is_looked_at_once(shared: str) -> None:
    many = dict.fromkeys(map(str, range(4_000)))
    value: Any
    match shared:
        case "dict in a list":
            value = [many] * 80_000
        case "dict in lists":
            value = [[many] for _ in range(80_000)]
        case "members":
            members = ["a"] * 100_000
            value = [{"$type": "set", "items": members} for _ in range(3_000)]
        case _:
            members = ["a"] * 100_000
            value = [{"$type": "dict", "items": members} for _ in range(3_000)]
    with measured() as cost:
        assert refused(program(value)).code == "pickle-bounds"
    assert cost.readings < SOON


def test_values_nest_up_to_the_limit() -> None:
    def nested(depth: int, make: Any) -> Any:
        value = make(0)
        for _ in range(depth - 1):
            value = make(value)
        return value

    for make in (lambda v: [v], lambda v: {"a": v}, lambda v: (v, v, 1, 1), lambda v: [v, 1]):
        # Sharing doubles the values of each level: the tuple stays shallow.
        if not isinstance(make(0), tuple):
            assert read(program(nested(limits.PROGRAM_DEPTH, make)))[1] == ()
        deep = program(nested(limits.PROGRAM_DEPTH + 1, make))
        assert refused(deep).code == "pickle-bounds"
    assert refused(PROTO + b"(" * 100_000 + b".").code == "pickle-bounds"
    assert refused(PROTO + b"]" * 100_000 + b"a" * 99_999 + b".").code == "pickle-bounds"
    # A shared branch counts at its deepest place.
    branch = nested(40, lambda v: [v])
    assert refused(program([branch, nested(40, lambda v: [v or branch])])).code == "pickle-bounds"


def _form(kind: str, keys: list[Any]) -> dict[str, Any]:
    is_set = kind in ("set", "frozenset")
    return {"$type": kind, "items": keys if is_set else [(key, 1) for key in keys]}


def test_keys_that_could_share_a_hash_are_bounded() -> None:
    few: dict[tuple[int, ...], int] = {(-1, -2, i): i for i in range(1_250)}
    assert read(program(few))[1] == ()
    assert refused(program({**few, (1,): 1})).code == "pickle-bounds"
    assert refused(program({tuple(range(65)): 1})).code == "pickle-bounds"
    numbers = [0.5 + number for number in range(2_500)] + list(range(-2_500, 0))
    assert read(program([dict.fromkeys(numbers[:2_000]), dict.fromkeys(numbers[2_000:])]))[1] == ()
    for one_more in (limits.TENSORS, 0.25):
        assert refused(program([dict.fromkeys(numbers), {one_more: 1}])).code == "pickle-bounds"


@pytest.mark.attack("large", "the same in tagged forms, nested tuples included", "pickle-bounds")
@pytest.mark.parametrize("kind", sorted(MAPPINGS | SETS))
def test_keys_of_tagged_forms_are_counted_with_those_of_dicts(kind: str) -> None:
    numbers = [0.5 + number for number in range(limits.PROGRAM_KEYS)]
    assert read(program(_form(kind, [*numbers, "a", None, True, 3])))[1] == ()
    assert refused(program([_form(kind, numbers), {0.25: 1}])).code == "pickle-bounds"
    assert refused(program([_form(kind, numbers), _form("set", [-1])])).code == "pickle-bounds"
    # What stands in a container is hashed with it, what stands there twice is hashed twice.
    inner = tuple(range(50))
    assert read(program(_form(kind, [(inner,) * 9, (inner,) * 80])))[1] == ()
    assert refused(program(_form(kind, [(inner,) * 100]))).code == "pickle-bounds"


def test_a_dict_as_a_member_of_a_set_is_counted_with_what_is_in_it() -> None:
    many = dict.fromkeys(map(str, range(limits.PROGRAM_KEYS)))
    assert read(program(_form("list", [many])))[1] == ()
    assert refused(program(_form("set", [many]))).code == "pickle-bounds"


def _worst_integers(bits: int) -> list[int]:
    """Integers below TENSORS that a dict of so many slots looks longest for: the first fill a
    stretch of the way that a search takes, the others begin their search in it.
    """
    slots = 1 << bits
    way = [0]
    for _ in range(slots // 3):
        way.append((5 * way[-1] + 1) % slots)
    place = {slot: at for at, slot in enumerate(way)}
    late = []
    for key in range(slots, limits.TENSORS):
        slot, rest = key % slots, key
        while slot in place and rest:
            rest >>= 5
            slot = (5 * slot + rest + 1) % slots
        if slot in place:
            late.append((place[slot], key))
    return way + [key for _, key in sorted(late)][: slots // 3 - 8]


@pytest.mark.no_cover
@pytest.mark.attack("large", "keys of dicts and members of sets that share a hash", "pickle-bounds")
def test_what_keys_can_cost_is_bounded() -> None:
    collide = [multiple * (2**61 - 1) for multiple in range(1, 20_000)]
    for value in (dict.fromkeys(collide[:4]), _form("set", collide), _form("dict", collide)):
        with measured() as cost:
            read(program(value))
        assert cost.readings < SOON
    worst = _worst_integers(13)
    dicts = program([dict.fromkeys(worst) for _ in range(100_000 // len(worst))])
    with measured() as cost:
        assert read(dicts)[1] == ()
    assert cost.readings < SOON
    many = program([dict.fromkeys(range(50_000)) for _ in range(5)])
    assert refused(many).code == "pickle-bounds"


@pytest.mark.no_cover
@pytest.mark.attack("large", "a megabyte of empty containers", "pickle-bounds")
def test_containers_are_bounded_by_what_they_take() -> None:
    empty = PROTO + b"(" + b"}" * 1_000_000 + b"t."
    assert refused(empty).code == "pickle-bounds"
    assert refused(PROTO + b"K\x01" + b"\x85" * 600_000 + b".").code == "pickle-bounds"
    named = PROTO + b"(" + ORDERED_DICT + b"q\x00)R" + b"h\x00)R" * 200_000 + b"t."
    assert refused(named).code == "pickle-bounds"


def test_a_program_of_too_many_opcodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROGRAM_OPCODES", 1_000)
    assert read(program(list(range(200, 600))))[1] == ()
    assert refused(program(list(range(2_000)))).code == "pickle-bounds"


def test_a_program_beyond_the_limit_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROGRAM_BYTES", 1_000)
    assert refused(program("x" * 1_000)).code == "pickle-bounds"
    assert code_of(file_of(program("x" * 1_000))) == "pickle-bounds"


@pytest.mark.attack("large", "copies of a large dict", "pickle-bounds")
def test_copies_of_a_large_dict_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = PROTO + b"](" + program(dict.fromkeys(range(100), 1))[2:-1]
    counters += (COUNTER + b"h\x00\x85R") * 50 + b"e."
    assert read(counters)[1] == ()
    monkeypatch.setattr(limits, "PROGRAM_MEMORY", 300_000)
    assert refused(counters).code == "pickle-bounds"


# ------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("kind", STORAGE_TYPES)
def test_each_storage_type_has_its_dtype_and_size(kind: str) -> None:
    dtype, itemsize = STORAGE_TYPES[kind]
    stored = storage(numel=6, kind=kind)
    made = PROTO + tensor(stored, shape=(2, 3), stride=(3, 1)) + STOP
    found, problems = read(made, _0=6 * itemsize)
    assert problems == ()
    assert found is not None
    assert found.value == TensorRef(dtype, (2, 3), (3, 1), 0, "0", 6)
    assert f"torch.{kind}" in found.globals
    assert refused(made, _0=6 * itemsize - 1).code == "pickle-tensor"


@pytest.mark.parametrize(
    ("window", "numel"),
    [
        ({"shape": (), "stride": ()}, 1),
        ({"shape": (6,), "stride": (1,)}, 6),
        ({"shape": (3, 2), "stride": (1, 3)}, 6),
        ({"shape": (2, 1, 3), "stride": (3, 9_999, 1)}, 6),
        ({"shape": (2,), "stride": (3,), "offset": 2}, 2),
        ({"shape": (0,), "stride": (1,)}, 0),
        ({"shape": (5, 0), "stride": (0, 1), "offset": 6}, 0),
        ({"shape": (0,), "stride": (1,), "offset": 7}, 0),
        ({"shape": (1, 1), "stride": (0, 0), "offset": 5}, 1),
        ({"shape": (1,) * 64, "stride": (1,) * 64}, 1),
    ],
)
def test_a_tensor_is_a_window_on_its_storage(window: Any, numel: int) -> None:
    ref = value_of(PROTO + tensor(storage(numel=6), **window) + STOP, _0=24)
    assert (ref.shape, ref.stride) == (window["shape"], window["stride"])
    assert (ref.numel, ref.offset) == (numel, window.get("offset", 0))


@pytest.mark.parametrize(
    "window",
    [
        {"shape": (1 << 40,), "stride": (0,)},
        {"shape": (6, 2), "stride": (1, 0)},
        {"shape": (2,), "stride": (0,)},
        {"shape": (7,), "stride": (1,)},
        {"shape": (2,), "stride": (6,)},
        {"shape": (6,), "stride": (1,), "offset": 1},
        {"shape": (), "stride": (), "offset": 6},
        {"shape": (3, 3), "stride": (1, 1)},
        {"shape": (2, 2), "stride": (1, 1)},
        {"shape": (2, 3), "stride": (2, 1)},
        {"shape": (2, 1, 2), "stride": (1, 0, 1)},
        {"shape": (2,), "stride": (-1,), "offset": 5},
        {"shape": (-1,), "stride": (1,)},
        {"shape": (1,), "stride": (1,), "offset": -1},
        {"shape": (2,), "stride": (1, 1)},
        {"shape": (2,), "stride": ()},
        {"shape": (1,) * 65, "stride": (1,) * 65},
        {"shape": (0, 1 << 62, 1 << 62), "stride": (1, 1, 1)},
        {"shape": (1,), "stride": (1 << 64,)},
        {"shape": (1 << 64, 0), "stride": (1, 1)},
    ],
)
def test_a_tensor_that_its_storage_does_not_have_is_refused(window: Any) -> None:
    made = tensor(storage(numel=6), **window)
    assert refused(PROTO + made + STOP, _0=24).code == "pickle-tensor"


@pytest.mark.parametrize(
    "made",
    [
        tensor(storage("1")),
        tensor(storage(numel=2)),
        tensor(storage(numel=-1)),
        tensor(storage(kind="LongStorage")),
        tensor(storage(location="")),
        tensor(storage(location="cpu\n")),
        tensor(storage(location="c" * 100)),
        tensor(b"N"),
        tensor(b"K\x01"),
        tensor(b"(" + text("module") + b"ctorch\nFloatStorage\n" + text("0") + b"tQ"),
        tensor(storage().replace(b"storage", b"Storage")),
        tensor(storage().replace(b"ctorch\nFloatStorage\n", COUNTER)),
        tensor(storage().replace(b"ctorch\nFloatStorage\n", text("FloatStorage"))),
        tensor(storage().replace(text("0"), integer(0), 1)),
        tensor(storage().replace(b"tQ", b"]tQ")),
        tensor(b"]" + storage()[1:].replace(b"tQ", b"Q")),
        tensor(storage(), grad=b"K\x00"),
        tensor(storage(), grad=b"N"),
        tensor(storage(), hooks=b"N"),
        tensor(storage(), hooks=b")"),
        tensor(storage(), hooks=b"}K\x00K\x01s"),
        tensor(storage(), hooks=ORDERED_DICT + b")RK\x00K\x01s"),
        tensor(storage(), hooks=b"}}"),
        tensor(storage()).replace(b"tR", b"}tR"),
        REBUILD + b")R",
        REBUILD + b"(" + storage() + b"\x88))\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00])\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00)]\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00(\x88t(K\x01t\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00(G" + struct.pack(">d", 1.0) + b"t(K\x01t\x89}tR",
    ],
)  # fmt: skip
def test_a_tensor_that_is_described_otherwise_is_refused(made: bytes) -> None:
    assert refused(PROTO + made + STOP, _0=4).code in {"pickle-tensor", "pickle-structure"}


def test_only_a_floating_tensor_may_want_a_gradient() -> None:
    made = PROTO + tensor(storage(kind="IntStorage"), grad=b"\x88") + STOP
    assert refused(made, _0=4).code == "pickle-tensor"
    assert value_of(PROTO + tensor(storage(), grad=b"\x88") + STOP, _0=4).numel == 1


def test_hooks_added_after_the_tensor_was_made_are_refused() -> None:
    # hooks = {}; hooks[0] = tensor(hooks)
    made = PROTO + b"}q\x00K\x00" + tensor(storage(), hooks=b"h\x00") + b"s" + STOP
    assert refused(made, _0=4).code == "pickle-tensor"


def test_a_storage_is_one_thing() -> None:
    two = PROTO + b"(" + tensor(storage()) + tensor(storage()) + b"t" + STOP
    assert len(value_of(two, _0=4)) == 2
    for other in (storage(kind="IntStorage"), storage(location="cuda:0")):
        made = PROTO + b"(" + tensor(storage()) + tensor(other) + b"t" + STOP
        assert refused(made, _0=4).code == "pickle-tensor"


def test_a_storage_that_nothing_names_is_refused() -> None:
    problem = refused(PROTO + tensor(storage()) + STOP, _0=4, _7=1 << 30)
    assert problem.code == "archive-record"
    assert "data/7" in problem.message
    assert code_of(file_of(PROTO + b"N" + STOP, {"0": b"payload"})) == "archive-record"


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
