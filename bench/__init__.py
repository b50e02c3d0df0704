"""Measuring whole runs of the processor against real servers."""
