"""What the dense detectors share: base, assignment, targets, head, keys and backbone."""
