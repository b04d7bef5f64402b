import io

import numpy as np
from rich.console import Console

from tlkeras.cli.training import confused_pairs, tables
from tlkeras.evaluation.metrics import evaluate_probabilities


def evaluation(predicted, labels, classes):
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1))
    probabilities[np.arange(len(labels)), predicted] = 0.9
    return evaluate_probabilities(probabilities, np.asarray(labels), [f"[c{i}]" for i in range(classes)])


def rendered(result):
    console = Console(file=io.StringIO(), width=200)
    for table in tables(result):
        console.print(table)
    return console.file.getvalue()


def test_small_problem_shows_everything_and_names_are_not_markup():
    text = rendered(evaluation([0, 0, 1, 2, 0], [0, 0, 1, 2, 2], 3))
    assert "80.0 %" in text
    assert "[c2]" in text
    for title in ("Evaluation", "Classes", "Most confused", "Confusion matrix"):
        assert title in text


def test_perfect_predictions_have_no_confused_pairs():
    assert [str(table.title) for table in tables(evaluation([0, 1], [0, 1], 2))] == [
        "Evaluation",
        "Classes",
        "Confusion matrix (images)",
    ]


def test_many_classes_list_the_worst_first_without_a_matrix():
    labels = np.repeat(np.arange(30), 2)
    predicted = labels.copy()
    predicted[2 * 17 : 2 * 17 + 2] = 3
    shown = tables(evaluation(predicted, labels, 30))
    assert [str(table.title) for table in shown] == ["Evaluation", "Classes, worst 20 of 30", "Most confused"]
    assert str(next(iter(shown[1].columns[0].cells))) == "[c17]"


def test_pairs_are_counted_per_direction():
    result = evaluation([1, 1, 0, 0, 0, 2], [0, 0, 1, 1, 1, 2], 3)
    assert confused_pairs(result) == [("[c1]", "[c0]", 3), ("[c0]", "[c1]", 2)]
    assert confused_pairs(result, limit=1) == [("[c1]", "[c0]", 3)]
