"""Networks as ONNX files: written by torch, run by ONNX Runtime, and quantised to 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor, nn

from zcpt.errors import ConfigError
from zcpt.files import write_atomically

INPUT, OUTPUT = "images", "logits"
OLDEST_TORCH = Version("2.6")
"""Oldest torch whose exporter writes programs of ``torch.export`` as ONNX without an experimental interface."""
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "Concat", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Operators that compute with integers. Not BatchNorms: those that follow no convolution have scales by channel."""


def write_onnx(path: Path, network: nn.Module, images: Tensor, description: str) -> None:
    """Write a network as an ONNX file for batches of any size.

    Args:
        path: File to write.
        network: The network, in evaluation mode.
        images: Example of its input [2, C, H, W].
        description: JSON text that the file has as its metadata ``zcpt``.

    Raises:
        ConfigError: Torch is too old.
    """
    if Version(torch.__version__) < OLDEST_TORCH:
        raise ConfigError(f"ONNX files need torch {OLDEST_TORCH} or newer, and this is {torch.__version__}.")
    program: Any = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
    program.model.metadata_props["zcpt"] = description
    write_atomically(path, program.model_proto.SerializeToString())


def make_onnx_classifier(path: Path) -> Callable[[Tensor], Tensor]:
    """Return the network of an ONNX file, run by ONNX Runtime on the CPU with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def classify(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])

    return classify


def quantize_onnx(source: Path, target: Path, batches: Iterable[Tensor]) -> None:
    """Write the network of an ONNX file with weights and activations of 8-bit integers.

    Scales of the activations are those of calibration images, scales of the weights one for each output channel. The
    file has the standard operators QuantizeLinear and DequantizeLinear, which inference engines fuse.

    Args:
        source: File of the network.
        target: File to write.
        batches: Calibration images [B, C, H, W], as the network takes them.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {INPUT: images.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder:
        # Folds the BatchNorms into the convolutions before, which leaves fewer roundings.
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QInt8,
        )
        write_atomically(target, quantized.read_bytes())
