# shellcheck shell=bash
# Names, places and small helpers that every part of `dev` uses. Sourced, never run.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/millstream
state=$checkout/.dev
runs=$state/run
logs=$state/log

kafka_port=${MILLSTREAM_DEV_KAFKA_PORT:-29092}
kafka_controller_port=${MILLSTREAM_DEV_KAFKA_CONTROLLER_PORT:-$((kafka_port + 1))}
postgres_port=${MILLSTREAM_DEV_POSTGRES_PORT:-25432}

say() { printf 'dev: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# True if VERSION is at least LEAST, by dotted numbers.
at_least() { # at_least VERSION LEAST
  [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

make_state_folders() { mkdir -p "$runs" "$logs" "$cache"; }

# Only one `dev` at a time may start or stop servers or fill the cache; the servers do not inherit the lock.
lock_state() {
  make_state_folders
  exec {lock_fd}> "$runs/lock"
  flock -w 900 "$lock_fd" || die "another dev command has held $runs/lock for 15 minutes"
}

unlock_state() { exec {lock_fd}>&-; }

# True if process PID runs and its command line holds TEXT: process numbers are used again.
runs_as() { # runs_as PID TEXT
  [[ $1 =~ ^[0-9]+$ && -r /proc/$1/cmdline ]] || return 1
  [[ $(tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline") == *"$2"* ]]
}

gone() { ! runs_as "$@"; }

# A process that has ended keeps its number until its parent collects it. Not by its command line: that is empty for a moment
# while it becomes another program.
ended() {
  local stat
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 0
  [[ ${stat##*) } == [ZX]* ]]
}
collected() { [[ ! -e /proc/$1 ]]; }

# Waits until CONDITION (a function or command) holds; false after SECONDS.
wait_until() { # wait_until SECONDS CONDITION...
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

port_open() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port_free() { ! port_open "$1"; }

# The port of a server that was killed closes a moment after the process has lost its command line.
need_port() { # need_port PORT VARIABLE
  wait_until 5 port_free "$1" || die "port $1 is taken by another process: stop it, or set $2 to a free one"
}

show_log_end() { # show_log_end FILE
  [[ -r $1 ]] || return 0
  say "the end of $1:"
  tail -n 20 "$1" | sed 's/^/  | /' >&2
}
