"""What can be known wrong before training, each in one sentence that says what to do."""

from distill.checks.config import check_config
from distill.checks.weights import check_weights
from distill.data.class_names import check_student_classes

__all__ = ["check_config", "check_student_classes", "check_weights"]
