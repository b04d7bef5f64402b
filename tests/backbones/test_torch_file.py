"""A file of PyTorch weights is data here: what its pickles ask for beyond tensors is refused in one line."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from tlkeras.backbones.torch_file import read_tensors
from tlkeras.errors import WeightsError

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
FACTS = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
MAPPING = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(words):
    return b"X" + struct.pack("<i", len(words)) + words.encode()


def whole(number):
    return b"J" + struct.pack("<i", number)


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def storage(key="7", length=6, kind="FloatStorage"):
    return tuple_of(text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), whole(length), b"N") + b"Q"


def tensor(held=None, offset=0, shape=(2, 3), strides=(3, 1)):
    shape, strides = (tuple_of(*map(whole, sizes)) for sizes in (shape, strides))
    return REBUILD + tuple_of(held or storage(), whole(offset), shape, strides, b"\x89", MAPPING) + b"R"


def state(*values):
    pairs = b"".join(text(f"t{number}") + value for number, value in enumerate(values))
    return b"\x80\x02" + MAPPING + b"(" + pairs + b"u" + b"}" + text("_metadata") + MAPPING + b"sb."


def numbers(*values, claimed=None):
    return struct.pack(f"<q{len(values)}f", len(values) if claimed is None else claimed, *values)


def file_of(pickled=None, *, magic=MAGIC, facts=FACTS, keys=("7",), behind=None):
    head = b"".join(pickle.dumps(value, 2) for value in (magic, VERSION, facts))
    listed = pickle.dumps(list(keys), 2)
    return head + (pickled or state(tensor())) + listed + (numbers(*range(6)) if behind is None else behind)


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "net.pth"
        path.write_bytes(data)
        return read_tensors(path)

    return read


def test_tensors_are_read_in_order_whatever_the_strides(read):
    held = storage()
    found = read(file_of(state(tensor(held), tensor(held, 1, (2, 2), (1, 2)), tensor(held, 5, (), ()))))
    assert list(found) == ["t0", "t1", "t2"]
    np.testing.assert_array_equal(found["t0"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["t1"], [[1, 3], [2, 4]])
    assert found["t2"] == 5
    assert not found["t0"].flags.writeable


def test_whole_numbers_are_read_too(read):
    held = storage("8", 1, "LongStorage")
    behind = numbers(*range(6)) + struct.pack("<qq", 1, 77)
    assert read(file_of(state(tensor(), tensor(held, 0, (), ())), keys=["7", "8"], behind=behind))["t1"] == 77


MARKER = "ran"
RUN = b"cposix\nsystem\n(" + text(f"touch {MARKER}") + b"tR"
TWICE = b"(" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60))
HOSTILE = {
    "a global": (file_of(b"\x80\x02cposix\nsystem\n."), "the name 'posix system'"),
    "a reduce": (file_of(b"\x80\x02" + RUN + b"."), "the name 'posix system'"),
    "a global from the stack": (file_of(b"\x80\x04" + text("posix") + text("system") + b"\x93."), "STACK_GLOBAL"),
    "an instance": (file_of(b"\x80\x02(" + text("id") + b"iposix\nsystem\n."), "the instruction INST"),
    "an object": (file_of(b"\x80\x02(cposix\nsystem\no."), "the name 'posix system'"),
    "a new object": (file_of(b"\x80\x02ccollections\nOrderedDict\n)\x81."), "the instruction NEWOBJ"),
    "an extension": (file_of(b"\x80\x02\x82\x01."), "the instruction EXT1"),
    "a text as persistent id": (file_of(b"\x80\x02Pstorage\n."), "the instruction PERSID"),
    "a call of what was built": (file_of(b"\x80\x02" + MAPPING + b")R."), "a call that no state dict needs"),
    "a mapping with content": (file_of(b"\x80\x02ccollections\nOrderedDict\n}\x85R."), "a call that no state dict"),
    "a storage called": (file_of(b"\x80\x02ctorch\nFloatStorage\n)R."), "a call that no state dict needs"),
    "a build of a tensor": (file_of(b"\x80\x02" + tensor() + b"}b."), "an instruction for a dict on something else"),
    "a build of a name": (file_of(b"\x80\x02" + REBUILD + b"}b."), "an instruction for a dict on something else"),
    "a persistent id of numbers": (file_of(b"\x80\x02" + tuple_of(*map(whole, range(6))) + b"Q."), "names no storage"),
    "a persistent id too short": (file_of(b"\x80\x02" + text("storage") + b"\x85Q."), "names no storage"),
    "a storage of functions": (file_of(b"\x80\x02" + tuple_of(text("storage"), REBUILD, text("7"), text("cpu"),
                               whole(6), b"N") + b"Q."), "a storage of no type"),
    "a storage of negative length": (file_of(state(tensor(storage(length=-1)))), "names no storage"),
    "two storages of one key": (file_of(state(tensor(), tensor(storage(length=7)))), "two storages of one key"),
    "a tensor too large": (file_of(state(tensor(shape=(3, 3)))), "beyond the end of its storage"),
    "an offset too large": (file_of(state(tensor(offset=1))), "beyond the end of its storage"),
    "a negative offset": (file_of(state(tensor(offset=-1))), "a tensor of no possible shape"),
    "a negative side": (file_of(state(tensor(shape=(-2, -3)))), "a tensor of no possible shape"),
    "sides without strides": (file_of(state(tensor(strides=(1,)))), "a tensor of no possible shape"),
    "overlapping strides": (file_of(state(tensor(strides=(1, 1)))), "does not fill its part"),
    "a side repeated without end": (file_of(state(tensor(shape=(1 << 28, 2), strides=(0, 1)))), "beyond the end"),
    "a huge number": (file_of(b"\x80\x02\x8b\xff\xff\xff\x7f."), "not enough data in stream"),
    "a huge text": (file_of(b"\x80\x02X\xff\xff\xff\xff."), "expected 4294967295 bytes"),
    "a huger text": (file_of(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f."), "expected"),
    "a huge memory": (file_of(b"\x80\x02Nr\xff\xff\xff\xff."), "no dict of tensors"),
    "a memory of nothing": (file_of(b"\x80\x02h\x09."), "9"),
    "a frame": (file_of(b"\x80\x04\x95" + b"\xff" * 7 + b"\x0f."), "the instruction FRAME"),
    "a bomb of tuples": (file_of(b"\x80\x02)q\x00" + TWICE + b"t."), "no dict of tensors"),
    "a bomb of marks": (file_of(b"\x80\x02" + b"(" * (3 << 20)), "pickle exhausted before seeing STOP"),
    "a tuple of itself": (file_of(b"\x80\x02]q\x00h\x00\x85h\x00(h\x00h\x00ee."), "list"),
    "keys that cannot be hashed": (file_of(b"\x80\x02}}Ns."), "a key that is no text"),
    "keys without values": (file_of(b"\x80\x02}(" + text("a") + b"u."), "a key that is no text"),
    "an empty stack": (file_of(b"\x80\x02."), "pop from empty list"),
    "no marks": (file_of(b"\x80\x02t."), "pop from empty list"),
    "no operands": (file_of(b"\x80\x02N\x86."), "lacks its operands"),
    "an unknown instruction": (file_of(b"\x80\x02\xfe."), "unknown"),
    "a state of numbers": (file_of(state(whole(1))), "no dict of tensors"),
    "another beginning": (file_of(magic=1), "another beginning"),
    "a zip": (b"PK\x03\x04" + bytes(60), ""),
    "nothing": (b"", "pickle exhausted"),
    "the other byte order": (file_of(facts={"little_endian": False}), "not little-endian"),
    "keys of nothing": (file_of(keys=["7", "8"]), "keys that are not those"),
    "a key twice": (file_of(keys=["7", "7"]), "keys that are not those"),
    "keys of no text": (file_of(keys=[7]), "keys that are not those"),
    "a count that lies": (file_of(behind=numbers(*range(6), claimed=1 << 40)), "without its 6 numbers"),
    "a count below none": (file_of(behind=numbers(*range(6), claimed=-6)), "without its 6 numbers"),
    "a storage that lies": (file_of(state(tensor(storage(length=1 << 28)))), f"without its {1 << 28} numbers"),
    "numbers cut off": (file_of()[:-3], "without its 6 numbers"),
    "numbers behind": (file_of() + b"more", "4 bytes behind its last number"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_get_one_line_run_nothing_and_allocate_little(read, monkeypatch, tmp_path, data, words):
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert words in line
    assert line.startswith("a file of PyTorch weights must be a state dict of plain tensors")
    assert len(line.splitlines()) == 1
    assert len(line) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
    assert most < 64 << 20


def test_no_part_of_a_file_is_one(read):
    data = file_of()
    for length in range(len(data)):
        with pytest.raises(WeightsError):
            read(data[:length])


def test_random_changes_are_refused_or_harmless(read):
    data, random = file_of(), np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        changed = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            changed[place] = random.integers(0, 256)
        try:
            read(bytes(changed))
        except WeightsError:
            refused += 1
    assert refused > 500


def test_a_file_too_large_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("tlkeras.backbones.torch_file._LARGEST_BYTES", 1000)
    (tmp_path / "net.pth").write_bytes(file_of() + bytes(1000))
    with pytest.raises(WeightsError, match="more than 1000 bytes"):
        read_tensors(tmp_path / "net.pth")
