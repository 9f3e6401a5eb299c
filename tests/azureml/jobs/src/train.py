"""What the job files run; no test does."""
