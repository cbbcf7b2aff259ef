"""Export fairseq models to ONNX, for onnxruntime and transformers.js.

The model for transformers (`huggingface`) is converted by optimum. The folder is laid out as transformers.js expects:
`onnx/encoder_model.onnx`, `onnx/decoder_model_merged.onnx` (the first step of a translation and the later ones, which
read the keys and values of those before), and beside them the tokenizer and the settings of transformers. With weights
in int8 (`onnx_int8`) the files are named `…_quantized.onnx`, which transformers.js loads as dtype `q8`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from kd.base.errors import UserError
from kd.base.files import read_json
from kd.base.scratch import scratch_folder
from kd.engines.loading import Decoding
from kd.models.description import ONNX, Original
from kd.models.files import DESCRIPTION, VOCABULARY
from kd.models.folder import write_description

FOLDER = "onnx"
ENCODER, DECODER = "encoder_model", "decoder_model_merged"
FLOAT32, INT8 = ".onnx", "_quantized.onnx"  # endings of the files, by which transformers.js knows the number format
_BESIDE = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def export(model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
    """Write a folder that onnxruntime and transformers.js load; the arguments are those of `Package.export`."""
    write(model_folder, out, original, beam=beam, format_="onnx", ending=FLOAT32)


def write(model_folder: Path, out: Path, original: Original, *, beam: int, format_: str, ending: str) -> None:
    """Write a folder with weights in float32 or int8, as `ending` (FLOAT32 or INT8) states.

    `format_` is the format's name in `export.formats`; the other arguments are those of `Package.export`.

    Raises:
        UserError: The model is damaged, or transformers has no architecture for it, as its message says.
    """
    from optimum.exporters.onnx import main_export

    from kd.engines import huggingface

    with scratch_folder("kd-onnx-") as folder:
        source, made = folder / "transformers", folder / "onnx"
        try:
            huggingface.export(model_folder, source, original, beam=beam)
        except UserError as error:
            raise UserError(error.problem, error.hint.replace("formats.huggingface", f"formats.{format_}")) from None
        main_export(str(source), str(made), task="text2text-generation-with-past", device="cpu", do_validation=False,
                    library_name="transformers", local_files_only=True)  # fmt: skip
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        for name in (ENCODER, DECODER):
            store = _quantise if ending == INT8 else shutil.copyfile
            store(made / f"{name}{FLOAT32}", out / FOLDER / f"{name}{ending}")
        for name in _BESIDE:
            if (made / name).is_file():
                shutil.copyfile(made / name, out / name)
        shutil.copyfile(source / VOCABULARY, out / VOCABULARY)
        content = read_json(source / DESCRIPTION)
    content.pop("files", None)
    compute_type = "int8" if ending == INT8 else "float32"
    write_description(out, {**content, "engine": ONNX, "compute_type": compute_type})


def _quantise(source: Path, out: Path) -> None:
    """Convert the weights of matrix products and embeddings to int8; activations are quantised as they are computed.

    Weights are scaled by channel and use 7 bits, because pairs of 8-bit products overflow on x86 CPUs without VNNI
    (onnxruntime's page on quantization).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # a line for each product of two activations, which stays in float32
    try:
        quantize_dynamic(
            source,
            out,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},  # the decoder's two steps are subgraphs
        )
    finally:
        logging.disable(disabled)


def translate(folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
    """Translate with onnxruntime, as a user would by optimum; the arguments are those of `Package.translate`."""
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForSeq2SeqLM
    from transformers import AutoTokenizer

    from kd.engines import huggingface

    options = SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = ORTModelForSeq2SeqLM.from_pretrained(folder, subfolder=FOLDER, session_options=options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return huggingface.generate(model, tokenizer, sources, decoding)
