"""hf_mlops: sampled classifiers that behave as if retrained without what is to be forgotten.

The public names are listed in __init__.pyi and loaded when first used, so that what needs no torch does not load it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
