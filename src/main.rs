//! The millstream program.

fn main() -> std::process::ExitCode {
    millstream::cli::main()
}
