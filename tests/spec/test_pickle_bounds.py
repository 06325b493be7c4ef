"""What a program may cost is bounded, also where its values are shared."""

from __future__ import annotations

from typing import Any

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.keys import MAPPINGS, SETS
from tests.costs import SOON, measured
from tests.spec.programs import program, read, refused
from tests.spec.torch_files import COUNTER, ORDERED_DICT, PROTO, STOP, code_of, file_of


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
@pytest.mark.parametrize("row", [b"(e", b"(K\1e", b"(M\1\1K\1e", b"(NNNe"])
def test_what_marks_cost_does_not_depend_on_those_before_them(row: bytes) -> None:
    others = limits.PROGRAM_DEPTH - 4
    marks = PROTO + b"(" * others + b"]" + row * 350_000 + b"t" * others + STOP
    with measured() as cost:
        assert read(marks)[1] == ()
    assert cost.readings < SOON


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
