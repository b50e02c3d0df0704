//! The millstream program with crash points and deliberate faults, for tests only.

fn main() -> std::process::ExitCode {
    millstream::cli::main()
}
