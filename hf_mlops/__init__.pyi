from .audit.gates import Audit, Gates, audit_samples
from .audit.reference import Reference
from .audit.select import best_fit
from .base.groups import Groups
from .base.spec import ForgetSpec
from .data.dataset import Dataset, Split
from .data.loading import load_dataset
from .export.weights import onnx_template, to_onnx
from .hypernet.model import HypernetConfig, Hypernetwork
from .hypernet.training import train_hypernetwork
from .population.config import PopulationConfig
from .population.executor import Engine
from .population.population import Population, retrain, train_population
from .population.target import Target
from .serving.classifier import OnnxClassifier
from .serving.sampler import Sampler, Samples

__all__ = [
    "Audit",
    "Dataset",
    "Engine",
    "ForgetSpec",
    "Gates",
    "Groups",
    "HypernetConfig",
    "Hypernetwork",
    "OnnxClassifier",
    "Population",
    "PopulationConfig",
    "Reference",
    "Sampler",
    "Samples",
    "Split",
    "Target",
    "audit_samples",
    "best_fit",
    "load_dataset",
    "onnx_template",
    "retrain",
    "to_onnx",
    "train_hypernetwork",
    "train_population",
]
