from tlkeras.choosing.plots import figure_of_comparison, figure_of_few_shot
from tlkeras.images.arrays import figure_bytes


def test_figures_are_drawn(comparison, curve):
    for figure in (figure_of_comparison(comparison), figure_of_few_shot(curve)):
        assert figure_bytes(figure).startswith(b"\x89PNG")
        assert figure.axes[0].get_xlabel()
