"""Tensors out of a file of the old ``torch.save`` format: without torch, and without running anything that it says.

Such a file is five pickles (a magic number, a version, facts on the machine, the state dict, the keys of its storages)
and behind them, for each key, an int64 count and so many little-endian numbers. A pickle is a program. Here
``pickletools`` only names its instructions; the few that a state dict needs are followed, and every other one is
refused. Arrays are views of the bytes that were read: whatever a file claims, nothing is allocated for it.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlkeras.errors import WeightsError

_HEADER = (0x1950A86A20F9469CFC6C, 1001)  # what torch.save writes first: magic number and version
_LARGEST_BYTES = 1 << 28
_PICKLED_BYTES = 1 << 20  # all five pickles; the state dict of a network of 300 tensors takes 42,000
_DTYPES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
}
_MAPPING = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
# Instructions that put their own argument, or one value, on the stack.
_ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Refused(ValueError):  # noqa: N818 - a verdict, told as WeightsError
    """Why a file is not read."""


class _Name(NamedTuple):
    """A name that a pickle wants to import; it is only compared with those that are known."""

    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]  # its axes as they lie in the storage, the one of the largest stride first

    def view(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor as a view of its storage's numbers."""
        inside = numbers[self.offset : self.offset + math.prod(self.shape)]
        return inside.reshape([self.shape[axis] for axis in self.order]).transpose(np.argsort(self.order))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The state dict in a file of the old torch.save format: name → read-only array, in the file's order.

    Raises: WeightsError for a file that is anything else, or that wants more than a state dict needs.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _Refused(f"more than {_LARGEST_BYTES} bytes")
        return _tensors(path.read_bytes())
    # LookupError: a stack, or what was to be remembered, has less on it than an instruction takes.
    except (OSError, ValueError, LookupError) as error:
        raise WeightsError(
            "a file of PyTorch weights must be a state dict of plain tensors as torch.save wrote it before version 1.6",
            received=f"{path} ({' '.join(str(error).split())[:160]})",
            next_step="Install the package that it came with again.",
        ) from error


def _tensors(data: bytes) -> dict[str, np.ndarray]:
    pickles = io.BytesIO(data[:_PICKLED_BYTES])
    storages: dict[str, _Storage] = {}
    header = tuple(_unpickled(pickles, storages) for _ in _HEADER)
    if header != _HEADER:
        raise _Refused("another beginning")
    facts, state, keys = (_unpickled(pickles, storages) for _ in range(3))
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise _Refused("numbers that are not little-endian")
    if not isinstance(state, dict) or not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise _Refused("no dict of tensors")
    arrays = dict(_numbers(data, pickles.tell(), keys, storages))
    return {name: tensor.view(arrays[tensor.storage.key]) for name, tensor in state.items()}


def _numbers(data: bytes, at: int, keys: Any, storages: dict[str, _Storage]) -> Iterator[tuple[str, np.ndarray]]:
    """Key and numbers of every storage, which lie behind the pickles from ``at`` on."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise _Refused("keys that are not those of its storages")
    for key in keys:
        storage = storages[key]
        start = at + 8
        at = start + storage.length * storage.dtype.itemsize
        if at > len(data) or int.from_bytes(data[start - 8 : start], "little", signed=True) != storage.length:
            raise _Refused(f"a storage without its {storage.length} numbers")
        yield key, np.frombuffer(data, storage.dtype, storage.length, start)
    if at != len(data):
        raise _Refused(f"{len(data) - at} bytes behind its last number")


def _unpickled(pickles: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """What one pickle describes; what it says of storages is noted in ``storages``."""
    stack: list[Any] = []
    marks: list[int] = []
    memory: dict[Any, Any] = {}

    def above_mark() -> list[Any]:
        mark = marks.pop()
        taken = stack[mark:]
        del stack[mark:]
        return taken

    for instruction, argument, _ in pickletools.genops(pickles):
        kind = instruction.name
        if kind in _ARGUMENTS:
            stack.append(argument)
        elif kind in _CONSTANTS:
            stack.append(_CONSTANTS[kind])
        elif kind in ("BINPUT", "LONG_BINPUT"):
            memory[argument] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memory[argument])
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind == "TUPLE":
            stack.append(tuple(above_mark()))
        elif kind in _TUPLES:
            stack.append(tuple(_popped(stack, _TUPLES[kind])))
        elif kind == "EMPTY_LIST":
            stack.append([])
        elif kind in ("APPEND", "APPENDS"):
            items = _popped(stack, 1) if kind == "APPEND" else above_mark()
            _top(stack, list).extend(items)
        elif kind == "EMPTY_DICT":
            stack.append({})
        elif kind in ("SETITEM", "SETITEMS"):
            items = _popped(stack, 2) if kind == "SETITEM" else above_mark()
            if len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
                raise _Refused("a key that is no text")
            _top(stack, dict).update(zip(items[::2], items[1::2], strict=True))
        elif kind == "GLOBAL":
            if argument not in (_MAPPING, _TENSOR, *_DTYPES):
                raise _Refused(f"the name {argument!r:.60}")
            stack.append(_Name(argument))
        elif kind == "BINPERSID":
            storage = _storage(stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise _Refused("two storages of one key")
            stack.append(storage)
        elif kind == "REDUCE":
            stack.append(_called(*_popped(stack, 2)))
        elif kind == "BUILD":
            stack.pop()  # notes of torch on the versions of its layers, of no use here
            _top(stack, dict)
        elif kind == "STOP":
            return stack.pop()
        elif kind != "PROTO":
            raise _Refused(f"the instruction {kind}")
    raise _Refused("no end")


def _popped(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise _Refused("an instruction that lacks its operands")
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _top(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise _Refused(f"an instruction for a {kind.__name__} on something else")
    return stack[-1]


def _whole(*numbers: Any) -> bool:
    return all(type(number) is int and 0 <= number <= _LARGEST_BYTES for number in numbers)


def _storage(named: Any) -> _Storage:
    """The storage that a persistent id names: ``("storage", type, key, place, count, None)``."""
    if type(named) is tuple and len(named) == 6:
        word, kind, key, _, count, view = named
        if word == "storage" and isinstance(kind, _Name) and isinstance(key, str) and _whole(count) and view is None:
            if kind.name not in _DTYPES:
                raise _Refused("a storage of no type")
            return _Storage(key, np.dtype(_DTYPES[kind.name]), count)
    raise _Refused("a persistent id that names no storage")


def _called(function: Any, arguments: Any) -> Any:
    """What the two functions that a state dict calls would give."""
    if function == _Name(_MAPPING) and arguments == ():
        return {}
    if function != _Name(_TENSOR) or type(arguments) is not tuple or len(arguments) != 6:
        raise _Refused("a call that no state dict needs")
    storage, offset, shape, strides, _, _ = arguments
    if not isinstance(storage, _Storage) or type(shape) is not tuple or type(strides) is not tuple:
        raise _Refused("a tensor without storage or shape")
    if len(shape) > 8 or len(shape) != len(strides) or not _whole(offset, *shape, *strides):
        raise _Refused("a tensor of no possible shape")
    if offset + math.prod(shape) > storage.length:
        raise _Refused("a tensor beyond the end of its storage")
    order = tuple(sorted(range(len(shape)), key=lambda axis: (-strides[axis], shape[axis])))
    lying = [shape[axis] for axis in order]
    if any(size > 1 and strides[axis] != math.prod(lying[place + 1 :])
           for place, (axis, size) in enumerate(zip(order, lying, strict=True))):  # fmt: skip
        raise _Refused("a tensor that does not fill its part of the storage")
    return _Tensor(storage, offset, shape, order)
