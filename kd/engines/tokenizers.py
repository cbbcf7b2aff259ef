"""Load transformers' tokenizers from the folders of Hugging Face models, which may be anyone's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import read_object
from kd.models.integrity import COPY_AGAIN

CONFIGURATION, TOKENIZER_CONFIGURATION = "config.json", "tokenizer_config.json"
# Of transformers: other names could lead to code that runs what a folder or the hub holds.
TOKENIZERS = ("MarianTokenizer", "M2M100Tokenizer", "NllbTokenizer", "T5Tokenizer", "MT5Tokenizer", "ByT5Tokenizer",
              "PreTrainedTokenizer")  # fmt: skip
_FILE_SETTINGS = (
    "_file",
    "_spm",
    "vocab",
)  # endings of the settings by which transformers' tokenizers find their files


def load_tokenizer(folder: Path) -> Any:
    """Load transformers' tokenizer of a folder; no code of the folder is run, and no file beside it is read.

    Raises:
        UserError: The tokenizer is damaged, or its settings name an unknown class or a file elsewhere.
    """
    from transformers import AutoTokenizer

    _check_tokenizer(folder)
    reason = ""
    for fast in (True, False):  # a fast one is made of a sentencepiece model by a protobuf that COMET may exclude
        try:
            return AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_fast=fast
            )
        except Exception as error:  # of a damaged file: any kind
            reason = reason or reason_of(error)
    raise UserError(f"The tokenizer in {folder} cannot be loaded: {reason}.", "Copy the whole folder.")


def _check_tokenizer(folder: Path) -> None:
    """Refuse settings of a tokenizer that name another class than those of the models, or a file elsewhere."""
    for name in (CONFIGURATION, TOKENIZER_CONFIGURATION):
        if not (folder / name).is_file():
            continue
        settings = read_object(folder / name, COPY_AGAIN)
        chosen = settings.get("tokenizer_class")
        if chosen is not None and str(chosen).removesuffix("Fast") not in TOKENIZERS:
            raise UserError(
                f"The tokenizer in {folder} cannot be loaded: {name} names the class {ascii(chosen)[:60]}.",
                f"Its tokenizer_class should be one of {', '.join(TOKENIZERS)}.",
            )
        for key, value in settings.items():
            if key.endswith(_FILE_SETTINGS) and isinstance(value, str) and _is_elsewhere(Path(value), folder):
                raise UserError(
                    f"{folder / name} reads {value}, a file outside of the model's folder ({key}).",
                    f"Remove {key} from {name}.",
                )


def _is_elsewhere(path: Path, folder: Path) -> bool:
    # The paths of the computer that saved a model are in many files, and lead nowhere here.
    return path.is_file() and not path.resolve().is_relative_to(folder.resolve())


def reason_of(error: Exception) -> str:
    """Return an error of another library as part of a sentence, of at most 200 characters."""
    return (" ".join(str(error).split())[:200] or type(error).__name__).rstrip(".")
