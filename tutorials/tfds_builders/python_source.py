"""The source text of the Python standard library, as a TFDS dataset."""

from collections.abc import Iterator

import tensorflow_datasets as tfds

from . import source_text


class PythonSource(tfds.core.GeneratorBasedBuilder):
    """The files of the running Python's standard library, as bytes.

    Nothing is downloaded: the files are a part of Python. About every tenth
    file is in the split `validation`, the others are in `train`; the path of a
    file decides, so that the split is always the same. Tests, and files that
    differ between installations of one version, are left out.

    The data depends on the version of Python, which is in the name of the
    builder's config and, along with a checksum of the files, in
    `builder.info.metadata`.

    The files are in the `array_record` format, which `as_data_source` reads
    without TensorFlow.

    Example:

    >>> builder = PythonSource(data_dir="data")
    >>> builder.download_and_prepare()
    >>> validation = builder.as_data_source(split="validation")
    >>> type(validation[0]["text"])
    <class 'bytes'>
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, config=None, **kwargs):
        kwargs.setdefault("file_format", tfds.core.FileFormat.ARRAY_RECORD)
        self._source = source_text.read()
        python, checksum = self._source.python, self._source.checksum
        config = config or tfds.core.BuilderConfig(
            # A new Python, or a changed library, is prepared anew.
            name=f"python_{python}_{checksum[:8]}",
            description=f"The standard library of Python {python}.",
        )
        super().__init__(config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Not `dataset_info_from_configs`, which reads metadata files that TFDS
        # expects in a folder for each builder.
        return tfds.core.DatasetInfo(
            builder=self,
            description="The source text of the Python standard library.",
            homepage="https://docs.python.org/3/library/",
            features=tfds.features.FeaturesDict(
                {"path": tfds.features.Text(), "text": tfds.features.Text()}
            ),
            metadata=tfds.core.MetadataDict(
                python=self._source.python,
                checksum=self._source.checksum,
                files=len(self._source.files),
                bytes=sum(map(len, self._source.files.values())),
            ),
            license="Python Software Foundation License",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        return {
            "train": self._generate_examples(self._source.train),
            "validation": self._generate_examples(self._source.validation),
        }

    def _generate_examples(
        self, files: dict[str, bytes]
    ) -> Iterator[tuple[str, dict]]:
        for path, text in files.items():
            yield path, {"path": path, "text": text}
