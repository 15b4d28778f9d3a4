"""What all benchmarks share: processes, rounds, models, tables, pictures."""
