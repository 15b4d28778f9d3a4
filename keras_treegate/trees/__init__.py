"""The trees of a layer: their storage, reading, counts and explanation."""
