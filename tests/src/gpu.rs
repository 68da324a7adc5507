//! A server with a CUDA device: a real one, or where the machine has none an emulated one,
//! which runs the same kernels on the processor.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use tenon_tensor::Device;

use crate::cuda;
use crate::families::Family;
use crate::server::{Refusal, Server};

/// Where the driver's libraries are: nowhere in particular with a real device. None where there
/// is neither a device nor an emulated one.
pub fn libraries() -> Option<PathBuf> {
    static LIBRARIES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || match Device::cuda_count() {
        Ok(1..) => Some(PathBuf::new()),
        found => {
            let required = std::env::var_os("TENON_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "there is no CUDA device: {found:?}");
            cuda::emulated_driver()
                .inspect_err(|reason| cuda::skip("models on a CUDA device", reason))
                .ok()
        }
    };
    LIBRARIES.get_or_init(find).clone()
}

/// The emulated driver's libraries; none, with a line that says so, where `test` cannot have
/// them.
pub fn emulated(test: &str) -> Option<PathBuf> {
    let libraries = libraries()?;
    if libraries.as_os_str().is_empty() {
        cuda::skip(test, "a real device does not do this on demand");
        return None;
    }
    Some(libraries)
}

/// A server of these with `--device device`, and with these variables in its environment.
pub fn try_start(
    libraries: &OsStr,
    device: &str,
    dtype: &str,
    families: &[Family],
    environment: &[(&str, &OsStr)],
) -> Result<Server, Refusal> {
    let mut arguments = vec!["--device", device, "--dtype", dtype];
    for family in families {
        let path = family.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    let mut all = vec![("LD_LIBRARY_PATH", libraries)];
    all.extend(environment);
    Server::try_start_in(&all, &arguments)
}

/// As [`try_start`]; the test fails where the server does not get ready.
#[track_caller]
pub fn start(
    libraries: &OsStr,
    device: &str,
    dtype: &str,
    families: &[Family],
    environment: &[(&str, &OsStr)],
) -> Server {
    match try_start(libraries, device, dtype, families, environment) {
        Ok(server) => server,
        Err(Refusal { status, log }) => panic!("it did not start ({status:?}):\n{log}"),
    }
}

/// The worker processes of a server, each with the number of its device.
pub fn workers(server: u32) -> Vec<(u32, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end while it is looked at.
        let arguments = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<&str> = arguments.split('\0').collect();
        if let ["tenon", "worker", "--ordinal", ordinal, ..] = arguments[..]
            && parent(pid) == Some(server)
        {
            found.push((pid, ordinal.parse().expect("a number")));
        }
    }
    found.sort_by_key(|&(_, ordinal)| ordinal);
    found
}

/// The parent of a process that is there and no zombie.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in brackets: the state, then the parent.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.next()?.parse().ok())?
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    parent(pid).is_some()
}
