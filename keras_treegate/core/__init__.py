"""Arithmetic without state and without a framework: the ground floor."""
