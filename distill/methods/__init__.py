"""The distillation methods, one file each, in a registry; a new one adds its line here."""

from distill.methods.adl import ADL as ADL
from distill.methods.base import METHODS as METHODS
from distill.methods.base import Method as Method
from distill.methods.base import MethodOutput as MethodOutput
from distill.methods.base import build_methods as build_methods
from distill.methods.bckd import BCKD as BCKD
from distill.methods.ida_det import IDaDet as IDaDet
from distill.methods.ld import LD as LD
from distill.methods.tadf import TADF as TADF
