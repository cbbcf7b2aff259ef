"""`python -m kd.engines.fairseq PROGRAM …`: kd's training process, or a program of fairseq, patched by `compat`."""

from __future__ import annotations

import importlib
import sys

STOCK = {
    "fairseq-train": "train",
    "fairseq-generate": "generate",
    "fairseq-preprocess": "preprocess",
    "fairseq-interactive": "interactive",
    "fairseq-score": "score",
    "fairseq-validate": "validate",
    "fairseq-eval-lm": "eval_lm",
    "fairseq-hydra-train": "hydra_train",
}

USAGE = f"""usage: python -m kd.engines.fairseq PROGRAM [option …]

PROGRAM is `train` (one training process of kd), `trial` (trial steps for it), or a program of fairseq 0.12.2,
made to run on this Python and torch:
  {", ".join(STOCK)}

example: python -m kd.engines.fairseq fairseq-generate DATA --path model.pt --beam 4
"""


def main() -> None:
    """Run the program named first."""
    program = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if program in ("-h", "--help"):
        print(USAGE, end="")
        return
    if program == "train":
        from kd.engines.fairseq import train

        train.main(sys.argv[2:])
        return
    if program == "trial":
        from kd.engines.fairseq import trial

        trial.main()
        return
    if program not in STOCK:
        print(f"{USAGE}\nThere is no program {program!r}.", end="\n", file=sys.stderr)
        sys.exit(2)
    from kd.engines.fairseq import compat

    compat.install()
    sys.argv = [program, *sys.argv[2:]]
    importlib.import_module(f"fairseq_cli.{STOCK[program]}").cli_main()


if __name__ == "__main__":
    main()
