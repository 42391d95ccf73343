"""Published checkpoints: found, read in every layout they come in, and put into our networks."""
