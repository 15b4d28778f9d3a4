"""How well networks predict, by work and by parameters."""
