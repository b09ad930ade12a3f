"""Pseudo labels: generated, calibrated, merged, completed, split and looked at."""
