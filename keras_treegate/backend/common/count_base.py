"""Where the low word of a count is full."""

# A power of two, so that a shift gives the carry; with room above it for what
# one batch adds.
COUNT_BITS = 30
COUNT_BASE = 2**COUNT_BITS
