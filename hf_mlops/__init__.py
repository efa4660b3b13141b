"""hf_mlops: sampled classifiers that behave as if retrained without what is to be forgotten."""

from hf_mlops.audit import Audit, Gates, Reference, audit, best_fit
from hf_mlops.data import Dataset, Split
from hf_mlops.datasets import load_dataset
from hf_mlops.export import onnx_template, to_onnx
from hf_mlops.hypernetwork import HypernetConfig, Hypernetwork, Samples
from hf_mlops.population import Population, PopulationConfig, retrain, train_population
from hf_mlops.spec import ForgetSpec
from hf_mlops.targets import Target
from hf_mlops.training import train_hypernetwork

__all__ = [
    "Audit",
    "Dataset",
    "ForgetSpec",
    "Gates",
    "HypernetConfig",
    "Hypernetwork",
    "Population",
    "PopulationConfig",
    "Reference",
    "Samples",
    "Split",
    "Target",
    "audit",
    "best_fit",
    "load_dataset",
    "onnx_template",
    "retrain",
    "to_onnx",
    "train_hypernetwork",
    "train_population",
]
