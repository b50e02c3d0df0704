"""The option that every program has: which pipeline file it runs. Its load is made for that file's source.

Owns: the files in `pipelines/`, and which of them is meant where none is named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

PIPELINES = Path(__file__).parent / "pipelines"
DEFAULT_PIPELINE = PIPELINES / "sliding.yaml"


def add_pipeline_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", type=Path, default=DEFAULT_PIPELINE, metavar="FILE")
