"""Pack a model for Argos Translate and LibreTranslate: a zip archive with a CTranslate2 and a sentencepiece model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.engines.loading import Decoding
from kd.models.description import ARGOS, Original
from kd.models.files import DESCRIPTION, EXPORTED, VOCABULARY
from kd.models.folder import write_description
from kd.models.language_names import name_of
from kd.models.languages import primary

ENDING = ".argosmodel"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # equal models give equal archives


def export(model_folder: Path, out: Path, original: Original, *, beam: int = 4) -> None:
    """Write a package with weights in int8, and `model.json` beside it; the arguments are those of `Package.export`.

    The width of the search is not used: Argos Translate has its own.

    Raises:
        UserError: The model is damaged, or has several directions.
    """
    from kd.engines.ctranslate2 import export as export_ctranslate2

    languages = original.languages
    if languages.tagged or (len(languages.source), len(languages.target)) != (1, 1):
        raise UserError(
            "A package for Argos Translate has one language pair, but this model has several, or states none.",
            "Set export.formats.argos=false.",
        )
    source, target = (primary(codes[0]) for codes in (languages.source, languages.target))
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder("kd-argos-") as folder:
        export_ctranslate2(model_folder, folder, "int8", original)
        metadata = {
            "package_version": "1.0",
            "argos_version": "1.5",
            "from_code": source,
            "from_name": name_of(source),
            "to_code": target,
            "to_name": name_of(target),
        }
        with zipfile.ZipFile(out / f"translate-{source}_{target}{ENDING}", "w", zipfile.ZIP_DEFLATED) as archive:
            root = f"translate-{source}_{target}-kd"
            _add(archive, f"{root}/metadata.json", json.dumps(metadata, indent=2).encode())
            _add(archive, f"{root}/sentencepiece.model", (folder / VOCABULARY).read_bytes())
            for path in sorted((folder / EXPORTED).iterdir()):
                _add(archive, f"{root}/{EXPORTED}/{path.name}", path.read_bytes())
        content = json.loads((folder / DESCRIPTION).read_bytes())
    content.pop("files", None)
    write_description(out, {**content, "engine": ARGOS})


def translate(folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
    """Translate with the files of a package, by CTranslate2 and sentencepiece alone as Argos Translate does.

    The arguments are those of `Package.translate`.
    """
    import ctranslate2
    from sentencepiece import SentencePieceProcessor

    (package,) = folder.glob(f"*{ENDING}")
    with scratch_folder("kd-argos-") as place, zipfile.ZipFile(package) as archive:
        archive.extractall(place)  # zipfile drops `..` and roots from names
        (root,) = place.iterdir()
        processor = SentencePieceProcessor(model_file=str(root / "sentencepiece.model"))
        model = ctranslate2.Translator(str(root / EXPORTED), inter_threads=threads, intra_threads=1)
        pieces = processor.encode(list(sources), out_type=str)
        found = model.translate_batch(
            pieces,
            beam_size=decoding.beam,
            max_decoding_length=decoding.max_pieces,
            max_batch_size=decoding.batch_tokens,
            batch_type="tokens",
        )
        return [processor.decode(each.hypotheses[0]) if tokens else ""
                for each, tokens in zip(found, pieces, strict=True)]  # fmt: skip


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
