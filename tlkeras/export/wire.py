"""As much of the protocol buffer wire format as exports need, without TensorFlow and without generated code.

https://protobuf.dev/programming-guides/encoding: a message is a list of fields, each with a tag
``number << 3 | wire type``. Type 0 is a varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def field(number: int, value: int | bytes | str) -> bytes:
    """One field: an unsigned integer as a varint; bytes, text or an encoded message with its length."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _LENGTH) + _varint(len(data)) + data


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: ``(number, value)``; fixed-width values as their bytes.

    Raises: ValueError when the bytes are no message.
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes ends behind the message")
        yield number, message[at : at + size]
        at += size


def messages(message: bytes, number: int) -> list[bytes]:
    """The contents of all length-delimited fields with this number, in order.

    Raises: ValueError when the bytes are no message.
    """
    return [value for found, value in fields(message) if found == number and isinstance(value, bytes)]


def text(message: bytes, number: int) -> str:
    """The last text field with this number, or ``""``."""
    found = messages(message, number)
    return found[-1].decode() if found else ""


def integer(message: bytes, number: int) -> int:
    """The last varint field with this number as a signed 64-bit integer, or 0."""
    value = 0
    for found, content in fields(message):
        if found == number and isinstance(content, int):
            value = content
    return value - 2**64 if value >= 2**63 else value


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError(f"an unsigned integer is needed, not {value}")
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= len(message):
            break
        digit = message[at]
        at += 1
        value |= (digit & 0x7F) << (7 * place)
        if digit < 0x80:
            return value, at
    raise ValueError(f"a number that does not end at byte {at}")
