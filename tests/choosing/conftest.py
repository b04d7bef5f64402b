import pytest


@pytest.fixture(scope="module", autouse=True)
def short_rounds():
    """Nothing here depends on how exactly a network is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlkeras.choosing.measure._MIN_SECONDS", 0.05)
        yield
