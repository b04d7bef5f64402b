"""The largest files that are allowed need less than 1 GiB above the process, in Python and in a graph."""

import subprocess
import sys

import pytest

# Sides just within the limits; a PNG of one colour is some hundred kilobytes.
PROGRAM = """
import resource, struct, sys, zlib
from tests.pictures import encode, photo
from tests.zoo import chunk
reader, colour, depth, side = sys.argv[1], *map(int, sys.argv[2:])
if reader == "python":
    from tlkeras.data.pipeline import fitted_pixels
    read = lambda data: fitted_pixels(data, 96, "crop")
else:
    import tensorflow as tf
    from tlkeras.images import graph
    spec = [tf.TensorSpec([None], tf.string)]
    fitted = tf.function(lambda batch: graph.fitted_batch(batch, 96, "crop"), input_signature=spec)
    read = lambda data: fitted(tf.constant([data] * 2)).shape
row = bytes(1) + bytes([77]) * (side * {2: 3, 6: 4, 0: 1, 4: 2}[colour] * depth // 8)
packing = zlib.compressobj(1)
packed = b"".join(packing.compress(row) for _ in range(side)) + packing.flush()
head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
data = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
read(encode(photo(20, 20), "PNG"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["python", "graph"])
@pytest.mark.parametrize(("colour", "depth", "side"), [(6, 8, 8100), (2, 8, 10_900)])
def test_no_allowed_file_needs_more_than_a_gibibyte(colour, depth, side, reader):
    command = [sys.executable, "-c", PROGRAM, reader, str(colour), str(depth), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1024
