#!/usr/bin/env bash
# Kills the processor again and again and lets the referee judge: kill-loop.sh --kills N --seed S [--instances I] [--pipeline FILE].
# Needs running servers and the fault build: ./dev chaos ARGS brings both and comes here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${MILLSTREAM_PYTHON:-python3}" -m chaos.kill_loop "$@"
