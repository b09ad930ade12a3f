"""What can be known wrong before training, each in one sentence that says what to do."""

from distill.checks.classes import check_student_classes
from distill.checks.config import check_config

__all__ = ["check_config", "check_student_classes"]
