"""Exports fairseq models to ONNX, for onnxruntime and transformers.js.

The model for transformers (`huggingface`) is converted by optimum. The folder is laid out as transformers.js expects:
`onnx/encoder_model.onnx`, `onnx/decoder_model_merged.onnx` (the first step of a translation and the later ones, which
read the keys and values of those before), and beside them the tokenizer and the settings of transformers.
"""

from __future__ import annotations

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
ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
_BESIDE = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def export(model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
    """Write a folder that onnxruntime and transformers.js load; the arguments are those of `Package.export`.

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
            raise UserError(error.problem, error.hint.replace("formats.huggingface", "formats.onnx")) from None
        main_export(str(source), str(made), task="text2text-generation-with-past", device="cpu", do_validation=False,
                    library_name="transformers", local_files_only=True)  # fmt: skip
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        for name in (ENCODER, DECODER):
            shutil.copyfile(made / name, out / FOLDER / name)
        for name in _BESIDE:
            if (made / name).is_file():
                shutil.copyfile(made / name, out / name)
        shutil.copyfile(source / VOCABULARY, out / VOCABULARY)
        content = read_json(source / DESCRIPTION)
    content.pop("files", None)
    write_description(out, {**content, "engine": ONNX})


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
