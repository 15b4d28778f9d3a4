"""Tables of which a step reads and writes some rows."""
