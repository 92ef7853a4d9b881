//! Frames on an attach socket: a big-endian u32 length, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest JSON body, in bytes.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is above [`MAX_FRAME`].
    #[error("attach frame of {0} bytes is longer than {MAX_FRAME}")]
    TooLong(usize),
    /// The body is not the message expected.
    #[error("attach frame: {0}")]
    Json(#[from] serde_json::Error),
}

/// One message as a frame.
///
/// # Errors
/// If it cannot be written as JSON or is longer than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut out = vec![0; 4];
    serde_json::to_writer(&mut out, message)?;
    let len = out.len() - 4;
    if len > MAX_FRAME {
        return Err(FrameError::TooLong(len));
    }
    out[..4].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(out)
}

/// Takes the first message off the front of `buffer`, or `None` while it is incomplete. Bytes after the
/// frame stay.
///
/// # Errors
/// If the length is too great (nothing is read then) or the body is not `T`.
pub fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*head) as usize;
    if len > MAX_FRAME {
        return Err(FrameError::TooLong(len));
    }
    if buffer.len() < 4 + len {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + len])?;
    buffer.drain(..4 + len);
    Ok(Some(message))
}

/// The header before each piece of multiplexed output; `stream` is 1 for stdout, 2 for stderr.
pub fn multiplex_header(stream: u8, len: u32) -> [u8; 8] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttachEvent;
    use proptest::prelude::*;

    #[test]
    fn a_frame_arrives_whole_however_it_is_cut() {
        let frame = encode(&AttachEvent::Attached).unwrap();
        let mut buffer = Vec::new();
        for (i, byte) in frame.iter().enumerate() {
            assert!(take::<AttachEvent>(&mut buffer).unwrap().is_none(), "at byte {i}");
            buffer.push(*byte);
        }
        buffer.extend_from_slice(b"rest");
        assert_eq!(take(&mut buffer).unwrap(), Some(AttachEvent::Attached));
        assert_eq!(buffer, b"rest");
    }

    #[test]
    fn a_length_beyond_the_bound_is_an_error_before_its_bytes_come() {
        let mut buffer = u32::MAX.to_be_bytes().to_vec();
        assert!(matches!(take::<AttachEvent>(&mut buffer), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn the_multiplex_header_is_dockers() {
        assert_eq!(multiplex_header(2, 258), [2, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = take::<AttachEvent>(&mut bytes);
        }
    }
}
