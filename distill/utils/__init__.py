"""What every room may use: files, checkpoints, seeds, means over devices."""
