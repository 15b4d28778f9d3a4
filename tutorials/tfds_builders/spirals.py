"""Two spirals in the plane, as a TFDS dataset."""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

SIZES = {"train": 2000, "test": 1000}


class Spirals(tfds.core.GeneratorBasedBuilder):
    """Points of two spirals that wind around each other, with some noise.

    Nothing is downloaded: the points are drawn with a fixed seed. 2,000 are in
    the split `train`, 1,000 in `test`.

    Example:

    >>> builder = Spirals(data_dir="data")
    >>> builder.download_and_prepare()
    >>> builder.as_data_source(split="train")[0]["features"].shape
    (2,)
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        kwargs.setdefault("file_format", tfds.core.FileFormat.ARRAY_RECORD)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Two spirals in the plane.",
            features=tfds.features.FeaturesDict(
                {
                    "features": tfds.features.Tensor(
                        shape=(2,), dtype=np.float32
                    ),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
            ),
            supervised_keys=("features", "label"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        return {
            split: self._generate_examples(seed)
            for seed, split in enumerate(SIZES)
        }

    def _generate_examples(self, seed: int) -> Iterator[tuple[int, dict]]:
        draw = np.random.default_rng(seed)
        size = list(SIZES.values())[seed]
        labels = draw.integers(0, 2, size)
        turns = np.sqrt(draw.uniform(0.02, 1, size))
        angles = 2 * np.pi * turns + np.pi * labels
        points = turns * np.stack([np.cos(angles), np.sin(angles)])
        points = points.T + draw.normal(0, 0.03, (size, 2))
        for index, (point, label) in enumerate(
            zip(points.astype("float32"), labels, strict=True)
        ):
            yield index, {"features": point, "label": int(label)}
