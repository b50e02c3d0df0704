# shellcheck shell=bash
# What this project needs from the machine, and how Debian provides it. Sourced by `dev`.
# Every check looks for the thing itself, so that what came another way (rustup, another JDK) is good too.

rust_least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$checkout/Cargo.toml")
requirements=("$checkout/chaos/requirements.txt" "$checkout/devtools/requirements.txt")
venv=$cache/venv-$(cat "${requirements[@]}" | sha256sum | cut -c 1-12)
python=$venv/bin/python
bench_requirements=$checkout/bench/requirements.txt

# rustup's folder is on PATH only after a new login.
cargo_folder=
if ! have cargo && [[ -x $HOME/.cargo/bin/cargo ]]; then
  cargo_folder=$HOME/.cargo/bin
  PATH=$cargo_folder:$PATH
fi

lacks_java() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || true
  [[ -z $version ]] || ((version < 17))
}

lacks_venv() {
  ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

rust_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2; }

lacks_rust() {
  local version
  version=$(rust_version) || true
  [[ -z $version ]] || ! have rustc || ! at_least "$version" "$rust_least"
}

lacks_libclang() {
  ! compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && ! compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

# Each prints the Debian packages of what is not there.

missing_servers() {
  ! lacks_java || echo openjdk-17-jre-headless
  have mvn || echo maven
  postgres_bin >/dev/null || echo postgresql
}

# What only the bench needs comes with its first run.
missing_bench-python() { missing_python; }

missing_python() { ! lacks_venv || echo python3 python3-venv; }

missing_build() {
  have gcc && have g++ && have make || echo gcc g++ libc6-dev make
  have clang && ! lacks_libclang || echo clang libclang-dev
  have pkg-config && pkg-config --exists openssl zlib || echo pkg-config libssl-dev zlib1g-dev
  ! lacks_rust || echo rustc-web cargo-web
}

missing_lint() {
  have cargo-clippy || have rustup || echo rust-web-clippy
  have cargo-fmt || have rustup || echo rustfmt-web
  have shellcheck || echo shellcheck
}

missing_of() { # missing_of GROUP...
  local group
  for group in "$@"; do "missing_$group"; done
}

as_root() {
  if [[ $EUID == 0 ]]; then "$@"; else sudo "$@"; fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" \
    < /dev/null >> "$logs/apt.log" 2>&1
}

# The server's package would start a cluster of its own on 5432, where this machine may have one already.
without_main_cluster() { # without_main_cluster COMMAND...
  local folder=/etc/postgresql-common/createcluster.d status=0
  as_root mkdir -p "$folder"
  echo 'create_main_cluster = false' | as_root tee "$folder/millstream-dev.conf" >/dev/null
  "$@" || status=$?
  as_root rm -f "$folder/millstream-dev.conf"
  return "$status"
}

install_packages() { # install_packages PACKAGE...
  [[ $EUID == 0 ]] || have sudo || die "these packages are missing and there is no sudo: as root run apt-get install $*"
  have apt-get || die "these are missing, by their Debian names, and there is no apt-get: $*"
  say "installing with apt: $*"
  : > "$logs/apt.log"
  apt update || { show_log_end "$logs/apt.log"; die "apt-get update failed: check the network and apt's sources"; }
  # An old Rust of Debian's would have to go for a new one: that is the machine's owner to decide.
  without_main_cluster apt install --no-install-recommends --no-remove "$@" ||
    { show_log_end "$logs/apt.log"; die "apt-get could not install $*: see $logs/apt.log"; }
  hash -r
}

# need GROUP...: of servers, python, build, lint. Without anything missing it calls no package manager.
need() {
  local packages
  make_state_folders
  mapfile -t packages < <(missing_of "$@" | tr ' ' '\n' | sort -u)
  [[ ${#packages[@]} == 0 ]] || install_packages "${packages[@]}"
  [[ " $* " != *' build '* ]] || check_rust
  [[ " $* " != *' lint '* ]] || check_rust_lint
  [[ " $* " != *' python '* ]] || make_venv
  [[ " $* " != *' bench-python '* ]] || { make_venv; add_bench_packages; }
}

check_rust() {
  ! lacks_rust ||
    die "Rust $rust_least or newer is needed, here is $(rust_version): get it from https://rustup.rs" \
      "or, if that is where it came from, run 'rustup update stable'"
}

check_rust_lint() {
  if have rustup && ! { cargo clippy --version && cargo fmt --version; } >/dev/null 2>&1; then
    rustup component add clippy rustfmt >&2
  fi
}

make_venv() {
  [[ -e $venv/.complete ]] && return
  say "making the Python environment $venv (once)"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$python" -m pip install --quiet --disable-pip-version-check "${requirements[@]/#/--requirement=}" \
    > "$logs/pip.log" 2>&1 ||
    { show_log_end "$logs/pip.log"; die "pip could not install ${requirements[*]}: check the network and run again"; }
  touch "$venv/.complete"
}

add_bench_packages() {
  cmp -s "$bench_requirements" "$venv/.bench" && return
  say "adding what the bench plots with (once)"
  "$python" -m pip install --quiet --disable-pip-version-check "--requirement=$bench_requirements" \
    > "$logs/pip.log" 2>&1 ||
    { show_log_end "$logs/pip.log"; die "pip could not install $bench_requirements: check the network and run again"; }
  cp "$bench_requirements" "$venv/.bench"
}
