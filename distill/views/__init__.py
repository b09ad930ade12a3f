"""What a detector lets a distillation method see."""
