"""Loads a packed file in Python, as own code does, and prints a checksum of every tensor."""

from __future__ import annotations

import hashlib
import sys

import torch

from distill.deploy import load_packed

try:
    state = load_packed(sys.argv[1]).state_dict()
except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
for name, tensor in state.items():
    plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    print(name, hashlib.sha256(plain.tobytes()).hexdigest())
