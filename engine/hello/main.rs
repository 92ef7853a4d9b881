//! `wharf/hello`: what the first container says.

use std::io::{self, Write};
use std::process::ExitCode;

const GREETING: &str = "\
Ahoy from Wharf! This container works, and so does everything below it:

  1. the client asked wharfd to run the image wharf/hello, which ships inside it
  2. wharfd wrote the container's plan and handed it to wharf-lifecycled
  3. wharf-lifecycled mounted the image's layers and started a shim
  4. the shim, containerd-shim-wharf-v2, had runw build the namespaces and cgroups
  5. runw started this program; the shim wrote these lines to the log you are reading

Three things to try next:

  wharf ps --all                       see that this container has done its work
  wharf pull debian && wharf run -it debian bash
                                       a shell in a Debian of its own
  wharf --help                         everything else
";

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(GREETING.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
