"""Common parts of the tutorials: their options, their data, their pictures."""

import argparse
import sys
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

HERE = Path(__file__).resolve().parent
IN_NOTEBOOK = "ipykernel" in sys.modules


def parse_options(description, own, catalogue):
    """Returns the options that every tutorial has.

    `own` is the dataset that needs no network, `catalogue` those of TFDS.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--dataset",
        choices=[own, *catalogue],
        default=own,
        help=f"{own} is made on this machine; the others are downloaded",
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "output", help="for results"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="for datasets (default: OUTPUT/data)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few steps, as a check"
    )
    options = parser.parse_args([] if IN_NOTEBOOK else None)
    options.output.mkdir(parents=True, exist_ok=True)
    options.data_dir = options.data_dir or options.output / "data"
    return options


def open_splits(options, own_builder):
    """Returns the splits of the chosen dataset: sequences of examples, by name.

    `own_builder` is the class of the builder that needs no network.
    """
    own = own_builder.name
    if options.dataset in (own, own.removeprefix("sklearn_")):
        tfds.disable_progress_bar()
        builder = own_builder(data_dir=options.data_dir)
        builder.download_and_prepare()
        return builder.as_data_source()
    print(f"{options.dataset} is downloaded, unless it is there already.")
    downloader.MAX_RETRIES = 3  # the ten of TFDS take more than three minutes
    try:
        return tfds.data_source(options.dataset, data_dir=options.data_dir)
    except Exception as error:
        cause = str(error).strip() or "no further explanation"
        sys.exit(
            f"\nCould not get the dataset {options.dataset}.\n"
            f"  Cause: {type(error).__name__}: {cause}\n"
            "The first use of this dataset needs a network, and TensorFlow "
            "(any backend can train): pip install tensorflow\n"
            "Without a network, leave --dataset out."
        )


def save(figure, path):
    """Writes a picture, and shows it where this is a notebook."""
    figure.savefig(path, dpi=100)
    print("wrote", path.name)
    if IN_NOTEBOOK:
        from IPython.display import Image, display

        display(Image(filename=path))
