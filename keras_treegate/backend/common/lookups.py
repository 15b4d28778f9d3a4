"""The error that lookups of ids share on all backends."""

# The error for ids of no row, with the largest id that there is.
OUT_OF_BOUNDS = (
    "`inputs` must be ids from 0 to {}, or negative ones that count from the "
    "end. Clip them, or raise `input_dim`. Received:"
)
