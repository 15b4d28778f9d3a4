import pytest

from keras_treegate.credit import scores


@pytest.fixture(autouse=True)
def _no_scores_of_other_tests():
    scores._waiting.scores.clear()
