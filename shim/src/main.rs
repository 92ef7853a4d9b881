//! containerd-shim-wharf-v2: keeps one container or pod alive while daemons come and go.

fn main() -> std::process::ExitCode {
    wharf_shim::command::run()
}
