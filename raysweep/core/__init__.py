"""What is true of a sweep without a cluster: no ray, pyarrow, files, clock, logging, threads or async."""
