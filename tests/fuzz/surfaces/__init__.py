"""What can be given to the library: each module makes tries of one kind, by a random generator."""

SURFACES = ("keys", "yaml_files", "coco_files", "checkpoints", "packed_files", "pseudo_files")
# In the ordinary test suite, all surfaces together.
TRIES = 90
