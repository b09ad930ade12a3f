"""The subcommands of scripts/pseudo_label.py: each adds its arguments and runs."""
