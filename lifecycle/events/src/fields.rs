//! Fields of an event by name, read from the encoded message.
//!
//! containerd generates an accessor for each event type; here one walk over the wire format, steered by the
//! descriptors of `containerd.events`, serves all of them. As there, only strings, nested messages and string
//! maps have fields (a map's key is the rest of the path joined by dots); an empty string counts as absent.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};

/// What a field leads to.
enum Shape {
    Text,
    Message(String),
    TextMap,
}

type Fields = HashMap<String, (u32, Shape)>;

/// Message name (without the leading dot) to its fields.
static MESSAGES: LazyLock<HashMap<String, Fields>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(wharf_containerd::DESCRIPTORS).unwrap_or_default();
    let mut messages = HashMap::new();
    for file in &set.file {
        if file.package() != "containerd.events" {
            continue;
        }
        for message in &file.message_type {
            collect(file.package(), message, &mut messages);
        }
    }
    messages
});

fn collect(prefix: &str, message: &prost_types::DescriptorProto, into: &mut HashMap<String, Fields>) {
    let name = format!("{prefix}.{}", message.name());
    let mut fields = Fields::new();
    for field in &message.field {
        let shape = match (field.r#type(), field.label()) {
            (Type::String, Label::Optional) => Shape::Text,
            (Type::Message, Label::Optional) => {
                Shape::Message(field.type_name().trim_start_matches('.').to_owned())
            }
            (Type::Message, Label::Repeated) if is_text_map(message, field.type_name()) => Shape::TextMap,
            _ => continue,
        };
        fields.insert(field.name().to_owned(), (u32::try_from(field.number()).unwrap_or_default(), shape));
    }
    for nested in &message.nested_type {
        collect(&name, nested, into);
    }
    into.insert(name, fields);
}

fn is_text_map(message: &prost_types::DescriptorProto, type_name: &str) -> bool {
    let short = type_name.rsplit('.').next().unwrap_or_default();
    message.nested_type.iter().any(|nested| {
        nested.name() == short
            && nested.options.as_ref().is_some_and(|o| o.map_entry())
            && nested.field.iter().all(|f| f.r#type() == Type::String)
    })
}

/// The text at `path` in the message `type_name` encoded as `bytes`; None if the type, the field or a value
/// is not there, or the bytes are malformed.
pub(crate) fn field(type_name: &str, bytes: &[u8], path: &[&str]) -> Option<String> {
    let (name, rest) = path.split_first()?;
    let (number, shape) = MESSAGES.get(type_name)?.get(*name)?;
    match shape {
        Shape::Text => text(last(bytes, *number)?),
        Shape::Message(inner) => field(inner, last(bytes, *number)?, rest),
        Shape::TextMap => {
            let wanted = rest.join(".");
            let mut found = None;
            each(bytes, *number, |entry| {
                let key = last(entry, 1).unwrap_or_default();
                if key == wanted.as_bytes() {
                    found = Some(String::from_utf8_lossy(last(entry, 2).unwrap_or_default()).into_owned());
                }
            })?;
            found
        }
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() { None } else { String::from_utf8(bytes.to_vec()).ok() }
}

/// The last occurrence of a length-delimited field: in protobuf the last one wins.
fn last(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let mut found = None;
    each(bytes, number, |value| found = Some(value))?;
    found
}

/// Calls back for each length-delimited occurrence of a field; None if the bytes are malformed.
fn each<'a>(mut bytes: &'a [u8], number: u32, mut found: impl FnMut(&'a [u8])) -> Option<()> {
    while bytes.has_remaining() {
        let (tag, wire) = decode_key(&mut bytes).ok()?;
        if tag == number && wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
            let value = bytes.get(..length)?;
            found(value);
            bytes = &bytes[length..];
        } else {
            skip_field(wire, tag, &mut bytes, DecodeContext::default()).ok()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use wharf_containerd::containerd::events::{
        ContainerCreate, NamespaceCreate, TaskExit, container_create,
    };

    use super::*;

    #[test]
    fn strings_are_found_by_name() {
        let exit = TaskExit { container_id: "c1".into(), id: "e1".into(), pid: 7, ..Default::default() };
        let bytes = exit.encode_to_vec();
        let of = |path: &[&str]| field("containerd.events.TaskExit", &bytes, path);
        assert_eq!(of(&["container_id"]).as_deref(), Some("c1"));
        assert_eq!(of(&["id"]).as_deref(), Some("e1"));
        assert_eq!(of(&["pid"]), None);
        assert_eq!(of(&["nothing"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(field("containerd.events.Unheard", &bytes, &["id"]), None);
    }

    #[test]
    fn nested_messages_and_maps_are_entered() {
        let created = ContainerCreate {
            id: "c".into(),
            image: String::new(),
            runtime: Some(container_create::Runtime { name: "rt".into(), options: None }),
        };
        let bytes = created.encode_to_vec();
        assert_eq!(
            field("containerd.events.ContainerCreate", &bytes, &["runtime", "name"]).as_deref(),
            Some("rt")
        );
        assert_eq!(field("containerd.events.ContainerCreate", &bytes, &["image"]), None);
        let named = NamespaceCreate { name: "n".into(), labels: [("a.b".into(), "v".into())].into() };
        let bytes = named.encode_to_vec();
        assert_eq!(
            field("containerd.events.NamespaceCreate", &bytes, &["labels", "a", "b"]).as_deref(),
            Some("v")
        );
        assert_eq!(field("containerd.events.NamespaceCreate", &bytes, &["labels", "z"]), None);
    }

    #[test]
    fn malformed_bytes_have_no_fields() {
        assert_eq!(field("containerd.events.TaskExit", &[0x0a, 0x50, 1], &["container_id"]), None);
        assert_eq!(field("containerd.events.TaskExit", &[0xff; 12], &["container_id"]), None);
    }
}
