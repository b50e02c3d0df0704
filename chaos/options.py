"""The option that every program has: which pipeline file it runs. Its load is made for that file's source.

Owns: the files in `pipelines/`, which of them is meant where none is named, and the refusal of one that a program cannot use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

PIPELINES = Path(__file__).parent / "pipelines"
DEFAULT_PIPELINE = PIPELINES / "sliding.yaml"


def add_pipeline_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", type=Path, default=DEFAULT_PIPELINE, metavar="FILE")


def refuse_hop(parser: argparse.ArgumentParser, file: Path, what: str) -> None:
    """Ends with a usage error where the file repartitions: what is frozen in its first epoch must have records in that epoch."""
    sources = yaml.safe_load(file.read_text(encoding="utf-8"))["sources"].values()
    if any("repartition_by" in source for source in sources):
        parser.error(
            f"{file}: a source has repartition_by, and {what} cannot use it: the first epoch of a router may hold ticks alone,"
            " which change no row, so that nothing of it could be refused"
        )
