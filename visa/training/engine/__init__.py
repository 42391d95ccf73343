"""The training loop of the published systems: one loop for a CPU, a GPU, a node and many nodes."""
