"""Pictures of runs, one file each; drawn from records, without a display."""
