//! The `tenon` binary.

fn main() -> std::process::ExitCode {
    tenon::cli::main()
}
