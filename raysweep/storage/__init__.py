"""A sweep's bytes on a file system: its folder, journal, checkpoints and result files."""
