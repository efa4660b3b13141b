"""A torch module as an ONNX graph that says nothing of the machine that it was exported on."""

from __future__ import annotations

import warnings
from contextlib import redirect_stderr
from io import StringIO

import torch
from google.protobuf.message import Message
from onnx import ModelProto
from torch import Tensor, nn

OPSET, IR_VERSION = 20, 10  # of the files: what onnxruntime 1.18 reads, and every one after it


def to_graph(module: nn.Module, examples: dict[str, Tensor], output: str, optimize: bool) -> ModelProto:
    """Exports a module for any number of rows; takes seconds.

    Args:
        examples: its inputs by the names that they are to have, of as many rows each.
        output: what its one output is to be called.
        optimize: whether initialisers may be folded or transposed.

    Raises:
        Exception: whatever the exporter does; torch has no common class for what it refuses.
    """
    rows = torch.export.Dim("batch")
    with warnings.catch_warnings(), redirect_stderr(StringIO()):  # pages about what it cannot export
        warnings.simplefilter("ignore")  # its deprecations of its own parts
        program = torch.onnx.export(
            module.eval(),
            tuple(examples.values()),
            input_names=list(examples),
            output_names=[output],
            dynamic_shapes=tuple({0: rows} for _ in examples),
            dynamo=True,
            opset_version=OPSET,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None  # it is only for the older exporter
    model = program.model_proto
    _strip(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model


def _strip(message: Message) -> None:
    """Takes away what the exporter notes about its own work: stack traces with paths and source lines of this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                _strip(part)
