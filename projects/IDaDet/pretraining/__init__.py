"""Pre-training of 1-bit backbones on image classification, in ReActNet's two steps.

Source: ReActNet (arXiv 2003.03488); IDa-Det (arXiv 2210.03477) pre-trains its detectors' backbones
so. The modules are imported one by one: ``distill.config`` reads the keys from here.
"""
