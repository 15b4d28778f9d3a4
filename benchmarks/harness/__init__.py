"""Parts that all benchmarks share: processes, rounds, models, tables, plots."""
