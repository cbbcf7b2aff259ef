"""Names of the files in vocabulary folders, data folders and model folders."""

WEIGHTS = "model.pt"  # a fairseq checkpoint
DICTIONARY = "dict.txt"  # fairseq's dictionary, of the target or of both sides
SOURCE_DICTIONARY = "dict.source.txt"  # beside it if the source has a dictionary of its own
TARGET_DICTIONARY = "dict.target.txt"  # the name in fairseq's data folders
VOCABULARY = "vocabulary.model"  # sentencepiece
CODES = "bpe.codes"  # in place of VOCABULARY: codes of subword-nmt or fastBPE
SEGMENTATION = "segmentation.json"  # beside them: the settings of Moses' tokeniser
PIECES = "vocabulary.vocab"  # its pieces with their scores, for people
LANGUAGES = "languages.json"  # the language pairs of a multilingual model or data folder
SUMMARY = "summary.json"  # what a training reports
DESCRIPTION = "model.json"  # of folders that can be given away
EXPORTED = "model"  # CTranslate2's folder in an exported model
TOKENIZER = "tokenizer"  # of transformers, beside it in a folder converted from Hugging Face
EXPORTED_WEIGHTS = "model.bin"  # in that folder
MEMBERS = "members"  # of an ensemble that can be given away: a model folder for each member, numbered from 1
MANIFEST = "manifest.json"  # of a task in the store
