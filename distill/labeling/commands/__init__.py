"""The subcommands of pseudo_label.py: each adds its arguments and runs."""
