"""raysweep: hyperparameter sweeps on a Ray cluster."""
