"""What this machine offers, and what this process sets: memory, threads, packages, child processes, Keras settings."""
