"""The trees of a layer: what is stored, read, counted and explained."""
