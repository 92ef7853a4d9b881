//! The runtime options of a container, and what of them is kept in its bundle.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use wharf_containerd::containerd::runc::v1::Options as Wire;
use wharf_containerd::type_url::RUNC_OPTIONS;

/// Where runtime state goes when neither the options nor the bootstrap say so.
const DEFAULT_ROOT: &str = "/run/wharf/runw";
/// The OCI runtime when the options name none.
const DEFAULT_RUNTIME: &str = "runw";

/// `containerd.runc.v1.Options` as the shim uses them. On disk it is `<bundle>/options.json`, in the form of
/// containerd's shim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The OCI runtime: a name looked up in PATH, or a path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub binary_name: String,
    /// Runtime state root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// The runtime asks systemd for cgroups.
    #[serde(skip_serializing_if = "is_false")]
    pub systemd_cgroup: bool,
    /// `--no-pivot`.
    #[serde(skip_serializing_if = "is_false")]
    pub no_pivot_root: bool,
    /// `--no-new-keyring`.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_keyring: bool,
    /// A cgroup for the shim itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shim_cgroup: String,
    /// Owner of the stdio pipes.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_uid: u32,
    /// Group of the stdio pipes.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_gid: u32,
    /// A folder with a checkpoint to begin from; the daemon names it in its request too.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_image_path: String,
    /// Where CRIU works and logs when a checkpoint is restored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_work_path: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Options {
    /// Reads them from a request's `Any`. Nothing, or an empty message of another kind, is the default.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn from_any(any: Option<&Any>) -> Result<Options, String> {
        let Some(any) = any.filter(|any| !any.value.is_empty()) else { return Ok(Options::default()) };
        if any.type_url.rsplit('/').next() != Some(RUNC_OPTIONS) {
            return Err(format!("runtime options are {:?}, not {RUNC_OPTIONS}", any.type_url));
        }
        let wire = Wire::decode(&any.value[..]).map_err(|e| format!("runtime options: {e}"))?;
        Ok(Options {
            binary_name: wire.binary_name,
            root: wire.root,
            systemd_cgroup: wire.systemd_cgroup,
            no_pivot_root: wire.no_pivot_root,
            no_new_keyring: wire.no_new_keyring,
            shim_cgroup: wire.shim_cgroup,
            io_uid: wire.io_uid,
            io_gid: wire.io_gid,
            criu_image_path: wire.criu_image_path,
            criu_work_path: wire.criu_work_path,
        })
    }

    /// Writes `options.json`, and the runtime's name to `runtime`, as containerd's shim does.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn store(&self, bundle: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_private(&bundle.join("options.json"), &text)?;
        write_private(&bundle.join("runtime"), self.binary_name.as_bytes())
    }

    /// Reads what [`Options::store`] or containerd's shim wrote; absent is the default.
    ///
    /// # Errors
    /// If the file cannot be read or is not JSON of that form.
    pub fn load(bundle: &Path) -> io::Result<Options> {
        match fs::read(bundle.join("options.json")) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Options::default()),
            Err(e) => Err(e),
        }
    }

    /// The runtime's executable: what the options name, else `runw` beside this program, else `runw`.
    pub fn runtime(&self) -> PathBuf {
        if !self.binary_name.is_empty() {
            return PathBuf::from(&self.binary_name);
        }
        let own = std::env::current_exe().ok();
        own.and_then(|own| Some(own.parent()?.join(DEFAULT_RUNTIME)))
            .filter(|beside| beside.is_file())
            .unwrap_or_else(|| PathBuf::from(DEFAULT_RUNTIME))
    }

    /// The runtime's state root for a namespace: the options' root, else `runw` beside the folder of shim
    /// sockets, else `/run/wharf/runw`; and the namespace.
    pub fn runtime_root(&self, socket_dir: Option<&Path>, namespace: &str) -> PathBuf {
        let root = if !self.root.is_empty() {
            PathBuf::from(&self.root)
        } else if let Some(state) = socket_dir.and_then(Path::parent) {
            state.join(DEFAULT_RUNTIME)
        } else {
            PathBuf::from(DEFAULT_ROOT)
        };
        root.join(namespace)
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_wire_and_kept_in_containerds_form() {
        let wire = Wire { binary_name: "crun".into(), systemd_cgroup: true, ..Wire::default() };
        let options = Options::from_any(Some(&wharf_containerd::to_any(RUNC_OPTIONS, &wire))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        options.store(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("options.json")).unwrap();
        assert_eq!(text, r#"{"binary_name":"crun","systemd_cgroup":true}"#);
        assert_eq!(Options::load(dir.path()).unwrap(), options);
    }

    #[test]
    fn options_of_another_kind_are_refused() {
        let any = Any { type_url: "runtimeoptions.v1.Options".into(), value: vec![10, 0] };
        assert!(Options::from_any(Some(&any)).unwrap_err().contains("containerd.runc.v1.Options"));
        assert_eq!(Options::from_any(None), Ok(Options::default()));
    }

    #[test]
    fn the_state_root_follows_options_then_sockets_then_default() {
        let default = Options::default();
        let root = |o: &Options, dir: Option<&str>| o.runtime_root(dir.map(Path::new), "ns");
        assert_eq!(root(&default, None), Path::new("/run/wharf/runw/ns"));
        assert_eq!(root(&default, Some("/x/s")), Path::new("/x/runw/ns"));
        let own = Options { root: "/r".into(), ..default };
        assert_eq!(root(&own, Some("/x/s")), Path::new("/r/ns"));
    }
}
