"""The quality of predictions of networks, by work and by parameters."""
