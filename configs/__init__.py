"""The configs that projects share, installed as ``distill.configs``.

``importlib.resources.files("distill.configs")`` is their folder, in a wheel as in a checkout.
"""
