//! runw: the OCI runtime

fn main() {
    std::process::exit(runw::cli::main());
}
