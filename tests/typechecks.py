"""How annotations are held against what is passed, in the rooms whose tensors have shapes: an int stands for a float."""

from beartype import BeartypeConf, beartype

ROOMS = [f"hf_mlops.{room}" for room in ("compute", "population", "hypernet", "audit", "export")]
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
