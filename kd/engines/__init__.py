"""The only places that import fairseq, CTranslate2 and sentencepiece."""
