"""What the layers cost, measured: `python -m keras_treegate.benchmarks`."""
