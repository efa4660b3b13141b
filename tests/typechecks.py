"""How annotations are held against what is passed, in the rooms whose tensors have shapes: an int stands for a float."""

from pathlib import Path

from beartype import BeartypeConf, beartype

PACKAGE = Path(__file__).parent.parent / "hf_mlops"
CHECKED = [
    f"hf_mlops.{room}.{file.stem}"
    for room in ("compute", "data", "population", "hypernet", "audit", "export", "serving", "base")
    for file in (PACKAGE / room).glob("*.py")
    if file.stem not in ("__init__", "cluster")  # what cluster.py sends to workers is pickled as it stands
]
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
