"""What computes with torch."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("this needs torch, which a request does without: pip install 'hf_mlops[train]'") from _error
