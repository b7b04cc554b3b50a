"""A real Slurm of two nodes on this machine, and the tests that need it."""
