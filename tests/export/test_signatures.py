"""Signatures as TensorFlow's own protos have them, and files that are none."""

import pytest

from tlkeras.errors import ExportError
from tlkeras.export.signatures import DTYPES, read_signatures


def test_signatures_are_those_that_tensorflow_reads(version_folder):
    from tensorflow.core.protobuf import saved_model_pb2

    ours = read_signatures(version_folder)
    theirs = saved_model_pb2.SavedModel.FromString((version_folder / "saved_model.pb").read_bytes())
    described = {k: v for k, v in theirs.meta_graphs[0].signature_def.items() if not k.startswith("__")}
    assert set(ours) == set(described) == {"serving_default", "pixels", "image_bytes"}
    for name, signature in ours.items():
        for mine, their in ((signature.inputs, described[name].inputs), (signature.outputs, described[name].outputs)):
            assert set(mine) == set(their)
            for key, info in mine.items():
                assert info.name == their[key].name
                assert info.dtype == DTYPES[their[key].dtype]
                assert info.shape == tuple(None if d.size < 0 else d.size for d in their[key].tensor_shape.dim)
    assert ours["pixels"].inputs["pixels"].shape == (None, None, None, 3)
    assert ours["image_bytes"].inputs["image_bytes"].dtype == "bytes"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a SavedModel .*No such file"),
        (b"", "no graph with the tag 'serve'"),
        (b"not a message", "is damaged"),
        (b"\x12\x05abc", "is damaged"),
    ],
)
def test_what_is_no_saved_model_is_told_in_one_line(content, words, tmp_path):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ExportError, match=words) as caught:
        read_signatures(tmp_path)
    assert "\n" not in str(caught.value)
