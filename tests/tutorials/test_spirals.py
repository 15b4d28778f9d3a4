"""The spirals are the same points each time, two kinds that wind around."""

import numpy as np
import pytest

from tests.tutorials.running import TUTORIALS


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TUTORIALS)
        from tfds_builders.spirals import Spirals

        def prepare():
            builder = Spirals(data_dir=tmp_path_factory.mktemp("data"))
            builder.download_and_prepare()
            return builder.as_data_source()

        yield prepare


def test_the_kinds_are_half_a_turn_apart(prepare):
    splits = prepare()
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 2000,
        "test": 1000,
    }
    points = np.stack([example["features"] for example in splits["train"]])
    kinds = np.array([example["label"] for example in splits["train"]])
    turns = np.linalg.norm(points, axis=1)
    angles = np.arctan2(points[:, 1], points[:, 0]) - np.pi * kinds
    apart = np.angle(np.exp(1j * (angles - 2 * np.pi * turns)))
    far_out = turns > 0.5  # further in, the noise turns points by more
    assert np.abs(apart[far_out]).max() < 0.9
    assert 0.4 < kinds.mean() < 0.6


def test_the_points_are_always_the_same(prepare):
    first, second = (
        [example["features"].tobytes() for example in prepare()["test"]]
        for _ in range(2)
    )
    assert first == second
