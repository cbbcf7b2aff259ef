"""The only package that imports fairseq, CTranslate2 and sentencepiece."""

# Packages whose versions results depend on; each manifest records them.
PACKAGES = ("kd", "torch", "fairseq", "ctranslate2", "sentencepiece", "sacrebleu", "numpy")
