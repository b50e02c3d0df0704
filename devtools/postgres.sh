# shellcheck shell=bash
# Debian's own PostgreSQL server on a data directory and port of this checkout. Sourced by `dev`.

postgres_home=$state/postgres
postgres_as=()
if [[ $EUID == 0 ]]; then
  # PostgreSQL refuses to run as root, and its user may not be able to reach the checkout (/root is closed).
  postgres_home=/var/lib/millstream-dev/$(printf '%s' "$checkout" | sha256sum | cut -c 1-12)
  postgres_as=(setpriv --reuid postgres --regid postgres --init-groups --)
fi
postgres_data=$postgres_home/data
postgres_log=$postgres_home/postgres.log
database_url=postgres://millstream:millstream@127.0.0.1:$postgres_port/stream_data

as_postgres() { # as_postgres PROGRAM...: from a folder that its user can be in
  (cd "$postgres_home" && exec "${postgres_as[@]}" "$@")
}

# The folder of the server's programs: those that made the data, else the newest.
postgres_bin() {
  local version
  version=$(cat "$postgres_data/PG_VERSION" 2>/dev/null) ||
    version=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | cut -d / -f 5 | sort -V | tail -n 1)
  [[ -x /usr/lib/postgresql/$version/bin/postgres ]] && echo "/usr/lib/postgresql/$version/bin"
}

postgres_pid() { # prints the server's process number, false if it does not run
  local pid
  pid=$(head -n 1 "$postgres_data/postmaster.pid" 2>/dev/null) || return 1
  runs_as "$pid" "$postgres_data" && echo "$pid"
}

postgres_make_home() {
  mkdir -p "$postgres_home"
  [[ $EUID != 0 ]] || { chown postgres: "$postgres_home"; ln -sfn "$postgres_home" "$state/postgres"; }
  ln -sfn "$postgres_log" "$logs/postgres.log"
}

postgres_init() {
  [[ -e $postgres_data/.complete ]] && return
  local bin secret=$postgres_home/password
  bin=$(postgres_bin)
  rm -rf "$postgres_data"
  # shellcheck disable=SC2016
  as_postgres bash -c 'umask 077 && printf "millstream\n" > "$0"' "$secret"
  as_postgres "$bin/initdb" --pgdata "$postgres_data" --username millstream --pwfile "$secret" \
    --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 > "$logs/initdb.log" 2>&1 ||
    { show_log_end "$logs/initdb.log"; die "PostgreSQL's data directory could not be made"; }
  as_postgres tee -a "$postgres_data/postgresql.conf" > /dev/null <<'EOF'
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 256MB
max_wal_size = 2GB
# Started again after a kill, it would otherwise open and sync every file by itself: seconds instead of a moment.
recovery_init_sync_method = syncfs
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
EOF
  as_postgres touch "$postgres_data/.complete"
}

postgres_answers() { "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$postgres_port" -U millstream -d postgres; }

# Its process number is in its own file a moment after the launch; a server that refused to start ends before that.
postgres_ready_or_gone() {
  if postgres_pid >/dev/null; then postgres_answers; else ended "$postgres_launched"; fi
}

postgres_launch() {
  (
    unlock_state
    cd "$postgres_home"
    exec setsid nohup "${postgres_as[@]}" "$(postgres_bin)/postgres" -D "$postgres_data" -p "$postgres_port" \
      -c unix_socket_directories= < /dev/null >> "$logs/postgres.log" 2>&1
  ) &
  postgres_launched=$!
  # What was launched may have found another one that starts: then it is gone, and that one is not ready yet.
  wait_until 60 postgres_ready_or_gone && postgres_answers
}

postgres_sql() { # postgres_sql DATABASE SQL
  PGPASSWORD=millstream "$(postgres_bin)/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$postgres_port" -U millstream -d "$1" -c "$2"
}

postgres_start() {
  if ! postgres_pid >/dev/null; then
    need_port "$postgres_port" MILLSTREAM_DEV_POSTGRES_PORT
    postgres_make_home
    postgres_init
    # The processes of a killed server hold its memory for a moment, and a new server refuses to start beside them.
    postgres_launch || wait_until 15 postgres_launch ||
      { show_log_end "$postgres_log"; die "PostgreSQL did not become ready: see $postgres_log"; }
  fi
  [[ -n $(postgres_sql postgres "select 1 from pg_database where datname = 'stream_data'") ]] ||
    postgres_sql postgres "create database stream_data"
}

postgres_stop() {
  local pid
  pid=$(postgres_pid) || return 0
  kill -INT "$pid"
  wait_until 30 gone "$pid" "$postgres_data" || { say "PostgreSQL does not stop by itself: killing it"; postgres_kill; }
}

postgres_kill() {
  local pid
  pid=$(postgres_pid) || return 0
  kill -KILL "$pid"
  # A new server takes the number in the old one's lock file for a running one until it is collected.
  wait_until 20 collected "$pid" ||
    die "process $pid (PostgreSQL) is killed but its parent does not collect it: give this container an init process"
}
