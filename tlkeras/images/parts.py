"""The parts of an image file: those that speak of its first picture, and what only a decoder would find wrong in them.

Pillow is given the former and nothing else: no comments, no metadata, no second picture. The latter is what a served
graph's decoders (libjpeg, libpng, giflib in TensorFlow) refuse where Pillow is content.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from tlkeras.images.header import REFUSALS, Header, read_header

# What libpng looks at behind the last row of a PNG.
_SPARE_BYTES = 1024
# Unpacked bytes that are held at a time.
_AT_A_TIME = 2**20


class Bytes:
    """Bytes as the walks read them. Beyond the end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def number(self, at: int, size: int, little: bool = False) -> int:
        """The unsigned number of 1, 2 or 4 bytes at a place."""
        field = self.data[at : at + size].ljust(size, b"\0")
        return int.from_bytes(field, "little" if little else "big")

    def letters(self, at: int) -> bool:
        """Whether the four bytes at a place are ASCII letters, as the name of a PNG chunk."""
        name = self.data[at : at + 4]
        return len(name) == 4 and name.isalpha()

    def sum_holds(self, at: int, length: int) -> int:
        """1 where the PNG chunk at a place, with a content of some length, has the checksum that it carries."""
        end = at + 8 + length
        return int(zlib.crc32(self.data[at + 4 : end]) == self.number(end, 4))

    def where(self, condition: bool, chosen: int, otherwise: int) -> int:
        """One number or the other; both have been worked out."""
        return chosen if condition else otherwise

    def choose(self, index: int, branches: Sequence[Callable[[], tuple[int, ...]]]) -> tuple[int, ...]:
        """The numbers that one of the functions gives."""
        return branches[index]()

    def walk(self, more: Callable, step: Callable, start: tuple[int, ...], most: int) -> tuple[int, ...]:
        """Step from ``start`` while there is more, at most ``most`` times."""
        state = start
        for _ in range(most):
            if not more(*state):
                break
            state = step(*state)
        return state


def plain(data: bytes, kind: str, header: Header | None) -> bytes:
    """The file without what says nothing of its first picture's pixels, which Pillow would read, and stumble over.

    A file whose header a graph refuses stays as it is.
    """
    if header is None or REFUSALS[header.refusal]:
        return data
    if kind == "jpeg":
        return _plain_jpeg(data)
    if kind == "png":
        return _plain_png(data)
    if kind == "webp":
        return _plain_webp(data[: header.end])
    return data[: header.end] + (b";" if kind == "gif" else b"")


def why_unserved(data: bytes, kept: bytes, kind: str, header: Header | None, largest: int) -> str:
    """Why a graph refuses a file that Pillow has decoded: by its header, or by what its decoder will find."""
    if header is None:
        return f"{kind.upper()} cannot be decoded inside a served graph"
    if header.refusal:
        return REFUSALS[header.refusal]
    if kind == "jpeg" and kept.find(b"\xff\xd9", kept.index(b"\xff\xda")) < 0:
        return "the JPEG file lacks its end mark, which a served graph does not forgive"
    if kind == "png" and not (_checksums_hold(data) and _rows_are_there(kept)):
        return "the PNG file has a wrong checksum or lacks rows, which a served graph does not forgive"
    if kind == "gif" and largest >= header.colours:
        return "the GIF file uses colours that its table lacks, which a served graph does not forgive"
    return ""


def ends_early(data: bytes, kind: str) -> bool:
    """Whether the file's own structure says that bytes are missing at its end."""
    if kind == "jpeg":
        return b"\xff\xd9" not in data[-64:]
    if kind == "png":
        return b"IEND" not in data[-64:]
    if kind == "gif":
        return read_header(Bytes(data)).end >= len(data)
    if kind == "webp":
        return len(data) < 12 or struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    if kind == "bmp":
        return len(data) < 26 or struct.unpack("<I", data[2:6])[0] > len(data)
    return False


def _plain_jpeg(data: bytes) -> bytes:
    """Without fill bytes, comments, and application segments but those that tell of colours (JFIF, Adobe)."""
    kept, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return b"".join([*kept, data[at:]])


def _plain_png(data: bytes) -> bytes:
    """The chunks of pixels, colours and transparency. Colours that a palette lacks are black, as libpng has them."""
    kept = [data[:8]]
    for name, content, whole in _chunks(data):
        if name == b"PLTE" and data[25] == 3:
            full = content.ljust(3 * 2 ** data[24], b"\0")[: 3 * 2 ** data[24]]
            kept.append(_chunk(name, full) if whole else _chunk(name, content)[:-4] + bytes(4))
        elif name in (b"IHDR", b"IDAT", b"IEND") or (name == b"tRNS" and whole):
            kept.append(_chunk(name, content) if whole else _chunk(name, content)[:-4] + bytes(4))
    return b"".join(kept)


def _plain_webp(data: bytes) -> bytes:
    """The chunks of pixels and of their alpha."""
    at, kept = 12, []
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if data[at : at + 4] == b"VP8X":
            # Of its flags only the one of alpha.
            kept.append(data[at : at + 8] + bytes([data[at + 8] & 0x10]) + data[at + 9 : end])
        elif data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            kept.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name, content and whether the checksum holds, of each chunk of a PNG that the header did not refuse."""
    at, name = 8, b""
    while name != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        yield name, data[at + 8 : end], zlib.crc32(data[at + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        at = end + 4


def _checksums_hold(data: bytes) -> bool:
    """Whether the chunks that decoders must read have the CRCs that they carry; Pillow forgives those of pixels."""
    return all(whole or name[:1].islower() for name, _, whole in _chunks(data))


def _rows_are_there(data: bytes) -> bool:
    """Whether the packed pixels of a PNG hold all rows, as libpng asks; Pillow is content with less."""
    width, height = struct.unpack(">II", data[16:24])
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    # Interlaced (Adam7): first column and row, then the steps, of each of seven smaller pictures.
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    missing = 0
    for left, top, across, down in adam7 if data[28] else ((0, 0, 1, 1),):
        columns, rows = (width - left + across - 1) // across, (height - top + down - 1) // down
        missing += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    unpacking = zlib.decompressobj()
    waiting = [content for name, content, _ in _chunks(data) if name == b"IDAT"]
    try:
        while missing and waiting and not unpacking.eof:
            missing -= len(unpacking.decompress(waiting.pop(0), min(missing, _AT_A_TIME)))
            if unpacking.unconsumed_tail:
                waiting.insert(0, unpacking.unconsumed_tail)
    except zlib.error:
        return False
    # Behind the last row anything may follow, or nothing but the end of the stream, which must be there.
    spare = _SPARE_BYTES
    with suppress(zlib.error):
        while spare and waiting and not unpacking.eof:
            spare -= len(unpacking.decompress(waiting.pop(0), spare))
            if unpacking.unconsumed_tail:
                waiting.insert(0, unpacking.unconsumed_tail)
        return not missing and (unpacking.eof or not spare)
    return not missing
