"""The errors of `data_parallel` that come before any process is asked."""

import keras
import pytest

from keras_treegate.distribution import data_parallel


def test_other_modules_are_refused():
    with pytest.raises(ValueError, match=r"Keras model.*Received: model=3\."):
        data_parallel(3)


def test_a_model_without_weights_is_refused():
    model = keras.Sequential([keras.layers.Dense(2)], name="unbuilt")
    with pytest.raises(ValueError, match=r"must be built.*'unbuilt'\. Call it"):
        data_parallel(model)


def test_a_single_process_is_told_what_to_do():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"DataParallel|init_process_group"):
        data_parallel(model)
