"""fairseq 0.12.2 behind its compatibility module: training, averaging and ensemble decoding."""
