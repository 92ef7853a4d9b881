//! Why an operation on a task failed, as its client is told. The texts are containerd's, since clients match them.

use wharf_kinds::Kind;
use wharf_vocab::IdentifierError;

use crate::bootstrap::BootstrapError;
use crate::bundle::BundleError;
use crate::client::CallError;
use crate::endpoint::EndpointError;
use crate::runtime::RuntimeError;

/// A container record could not be had: what the record store says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LookupError {
    pub kind: Kind,
    pub text: String,
}

/// Why an operation on a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Container(#[from] LookupError),
    #[error("task {0} not found")]
    NoTask(String),
    #[error("task {0}: already exists")]
    Exists(String),
    #[error("invalid task id {id}: {source}")]
    TaskId { id: String, source: IdentifierError },
    #[error("invalid exec id {id}: {source}")]
    ExecId { id: String, source: IdentifierError },
    #[error("invalid sandbox id {id}: {source}")]
    SandboxId { id: String, source: IdentifierError },
    #[error("sandbox {0}: not found")]
    NoSandbox(String),
    #[error("sandbox {0} already running: already exists")]
    SandboxExists(String),
    #[error("failed to create sandbox {id}: {source}")]
    CreateSandbox { id: String, source: CallError },
    #[error("task api address {0:?}: {1}: invalid argument")]
    TaskApi(String, EndpointError),
    #[error("exec id cannot be empty")]
    NoExecId,
    #[error("exec {0}: already exists")]
    ExecExists(String),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("failed to start shim: failed to resolve runtime path: {0}")]
    Runtime(#[source] RuntimeError),
    #[error("failed to resolve runtime path: {0}")]
    InfoRuntime(#[source] RuntimeError),
    #[error("failed to start shim: start failed: {0}")]
    Start(#[source] BootstrapError),
    #[error("failed to start shim: connect to shim: {0}")]
    Connect(#[source] std::io::Error),
    #[error("failed to create shim task: {0}")]
    Create(#[source] CallError),
    #[error("failed to delete task: {0}")]
    Delete(#[source] CallError),
    #[error("{0}")]
    Info(#[source] BootstrapError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("shim of task {0} is gone and its exit is not known: not found")]
    Lost(String),
    #[error("operation ended unexpectedly: internal")]
    Interrupted,
}

impl TaskError {
    pub fn kind(&self) -> Kind {
        match self {
            TaskError::Container(error) => error.kind,
            TaskError::NoTask(_) | TaskError::NoSandbox(_) | TaskError::Lost(_) => Kind::NotFound,
            TaskError::Exists(_) | TaskError::ExecExists(_) | TaskError::SandboxExists(_) => {
                Kind::AlreadyExists
            }
            TaskError::CreateSandbox { source, .. } => source.kind(),
            TaskError::TaskId { .. }
            | TaskError::ExecId { .. }
            | TaskError::SandboxId { .. }
            | TaskError::TaskApi(..)
            | TaskError::NoExecId => Kind::InvalidArgument,
            TaskError::Bundle(error) => error.kind(),
            TaskError::Runtime(error) | TaskError::InfoRuntime(error) => error.kind(),
            TaskError::Start(error) | TaskError::Info(error) => error.kind(),
            TaskError::Connect(error) => Kind::of_io(error),
            TaskError::Create(error) | TaskError::Delete(error) | TaskError::Call(error) => error.kind(),
            TaskError::Interrupted => Kind::Internal,
        }
    }
}
