"""Where a sweep runs: on a Ray cluster, or in one process on a virtual clock."""
