"""The answers of ``predict``."""

import numpy as np

from tlkeras.cli.predicting import _answers
from tlkeras.progress import Silent


class Undecided:
    """Two classes are equally probable."""

    class_names = ("ant", "bee", "cat")

    def predict_batches(self, paths, failed):
        yield [0], np.array([[0.4, 0.2, 0.4]], np.float32)


def test_equal_probabilities_rank_as_argmax_has_them():
    answers, _ = _answers(Undecided(), ["photo.jpg"], 3, Silent())
    assert answers[0]["label"] == "ant"
    assert [other["label"] for other in answers[0]["top"]] == ["ant", "cat", "bee"]
