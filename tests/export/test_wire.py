"""The wire format, against protobuf's own encoder."""

import pytest
from tensorflow.core.framework import attr_value_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import config_pb2

from tlkeras.export import wire


@pytest.mark.parametrize("value", [1, 127, 128, 300, 2**31 - 1])
def test_numbers_are_written_as_protobuf_writes_them(value):
    ours = wire.field(2, value) + wire.field(5, 7)
    theirs = config_pb2.ConfigProto(intra_op_parallelism_threads=value, inter_op_parallelism_threads=7)
    assert ours == theirs.SerializeToString()
    assert dict(wire.fields(ours)) == {2: value, 5: 7}


@pytest.mark.parametrize("content", [b"", b"a", "grün".encode(), bytes(200), b"\xff" * 70_000])
def test_bytes_are_written_as_protobuf_writes_them(content):
    theirs = attr_value_pb2.AttrValue(s=content).SerializeToString()
    assert wire.field(2, content) == theirs
    assert list(wire.fields(theirs)) == [(2, content)]


def test_signed_numbers_and_unset_fields():
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size, name=f"d{size}") for size in (-1, 0, 3, 2**40)]
    ).SerializeToString()
    dimensions = wire.messages(shape, 2)
    assert [wire.integer(dimension, 1) for dimension in dimensions] == [-1, 0, 3, 2**40]
    assert [wire.text(dimension, 2) for dimension in dimensions] == ["d-1", "d0", "d3", f"d{2**40}"]
    assert wire.text(b"", 1) == ""


def test_fixed_width_fields_are_passed_over():
    message = attr_value_pb2.AttrValue(f=1.5).SerializeToString() + wire.field(3, 9)
    assert wire.integer(message, 3) == 9


@pytest.mark.parametrize("message", [b"\x08", b"\x12\x05abc", b"\x0b", b"\x09abc", b"\x80" * 11, b"\x12\xff"])
def test_damaged_messages_are_told(message):
    with pytest.raises(ValueError, match=r".+"):
        list(wire.fields(message))


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="unsigned"):
        wire.field(1, -1)
