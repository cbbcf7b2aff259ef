"""Scores of translations: of single sentences for selection, of whole corpora for evaluation, with significance."""
