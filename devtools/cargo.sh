# shellcheck shell=bash
# Building with cargo: one profile and one set of dependency features, so that RocksDB compiles once a machine.
# Sourced by `dev`.

target=${MILLSTREAM_TARGET_DIR:-$cache/target}

announce_rocksdb() {
  compgen -G "$target/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null ||
    say "the first build compiles RocksDB: about 12 minutes on two cores, once a machine"
}

build() {
  need build
  use_env
  announce_rocksdb
  cargo build --release --locked --workspace
  cargo build --release --locked --features fault --bin millstream-fault
}

# The yardstick of the bench: an example of the same package, so that nothing compiles twice for it.
build_plain() { cargo build --release --locked --example plain; }

millstream() {
  [[ -x $target/release/millstream ]] || build
  use_env
  exec "$MILLSTREAM_BIN" "$@"
}
