//! The stdio address and the attach protocol between an engine and the shim.
//!
//! An engine names a container's streams with a [`StdioAddress`] in the `stdin`, `stdout` and `stderr`
//! fields of a task or an exec. The shim then writes the log itself and listens on the address's attach
//! socket, where the engine hands over a client's socket with one [`AttachRequest`]; the shim answers with
//! [`AttachEvent`]s. Frames are [`frame`]'s.
//!
//! ```text
//! wharf:///abs/log?format=json-file&max-size=0&max-file=1&attach=/abs/socket&stdin=open
//! ```

mod address;
mod attach;
pub mod frame;
mod handover;
mod percent;

pub use address::{AddressError, LogFormat, SCHEME, StdinMode, StdioAddress};
pub use attach::{ATTACH_VERSION, AttachEvent, AttachRequest, ClosedBy, Framing};
pub use handover::{HandOverError, hand_over, receive_event};
