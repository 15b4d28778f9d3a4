"""The handwritten digits that come with scikit-learn, as a TFDS dataset."""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits


class SklearnDigits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8 by 8 pixels, each 0 to 16.

    Nothing is downloaded: the images are a part of scikit-learn. Every third
    image is in the split `test` (599), the others are in `train` (1,198).

    The files are in the `array_record` format, which `as_data_source` reads
    without TensorFlow.

    Example:

    >>> builder = SklearnDigits(data_dir="data")
    >>> builder.download_and_prepare()
    >>> train = builder.as_data_source(split="train")
    >>> train[0]["image"].shape
    (8, 8, 1)
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        kwargs.setdefault("file_format", tfds.core.FileFormat.ARRAY_RECORD)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Not `dataset_info_from_configs`, which reads metadata files that TFDS
        # expects in a folder for each builder.
        return tfds.core.DatasetInfo(
            builder=self,
            description="The handwritten digits that come with scikit-learn.",
            homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(8, 8, 1), dtype=np.uint8
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        return {
            "train": self._generate_examples(test=False),
            "test": self._generate_examples(test=True),
        }

    def _generate_examples(self, test: bool) -> Iterator[tuple[int, dict]]:
        digits = load_digits()
        for index, (image, label) in enumerate(
            zip(digits.images, digits.target, strict=True)
        ):
            if (index % 3 == 2) == test:
                yield (
                    index,
                    {
                        "image": image.astype(np.uint8)[..., np.newaxis],
                        "label": int(label),
                    },
                )
