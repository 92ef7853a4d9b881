//! Messages of systemd's D-Bus socket.

use wharf_cgroups::systemd::wire::Message;

use crate::outcome;

/// What is decoded can be encoded, and then says the same.
pub fn dbus(data: &[u8]) -> u64 {
    let whole = data.first_chunk::<16>().and_then(Message::length);
    let message = Message::decode(data).ok_or("no message");
    if let Ok(message) = &message {
        let written = message.encode();
        let again = Message::decode(&written).unwrap_or_else(|| panic!("lost when written: {message:?}"));
        // bytes are compared, since a NaN is not equal to itself
        assert_eq!(again.encode(), written, "{message:?}");
        let length = written.first_chunk::<16>().and_then(Message::length);
        assert!(length.is_none_or(|l| l == written.len()), "{length:?} of {}", written.len());
    }
    let shape = |m: &Message| 1 << (m.body.len().min(8) + 9 * usize::from(m.reply_to != 0));
    let body: String = message.iter().flat_map(|m| &m.body).take(8).map(|v| v.signature()).collect();
    let body: String = body.chars().take(8).collect();
    outcome::of(&body, &message, shape) ^ u64::from(whole.is_some())
}
