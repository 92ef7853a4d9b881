//! What older versions of the API say of images beside what the newest says.

use serde_json::{Map, Value, json};
use wharf_docker::image::{Inspect, Summary};

use crate::version::ApiVersion;

/// The list as the version has it.
pub fn summaries(images: Vec<Summary>, version: ApiVersion) -> Value {
    let summary = |mut image: Summary| {
        if !version.at_least(1, 51) {
            image.containers = -1;
        }
        if !version.at_least(1, 43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags.push("<none>:<none>".into());
            image.repo_digests.push("<none>@<none>".into());
        }
        let size = image.size;
        let mut value = serde_json::to_value(image).unwrap_or_default();
        if !version.at_least(1, 44) {
            value["VirtualSize"] = json!(size);
        }
        value
    };
    images.into_iter().map(summary).collect()
}

/// One image as the version has it.
pub fn inspect(image: Inspect, version: ApiVersion) -> Value {
    let (size, has_created) = (image.size, image.created.is_some());
    let mut value = serde_json::to_value(image).unwrap_or_default();
    let Value::Object(fields) = &mut value else { return value };
    if !version.at_least(1, 44) {
        fields.insert("VirtualSize".into(), json!(size));
        if !has_created {
            fields.insert("Created".into(), json!("0001-01-01T00:00:00Z"));
        }
    }
    if !version.at_least(1, 45) {
        fill(fields, json!({"Container": "", "ContainerConfig": null}));
    }
    if !version.at_least(1, 52) {
        fill(fields, json!({"Parent": "", "Comment": "", "DockerVersion": "", "Author": ""}));
        let config = fields.entry("Config").or_insert_with(|| json!({}));
        if let Value::Object(config) = config {
            fill(
                config,
                json!({
                    "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "",
                    "Volumes": null, "WorkingDir": "",
                }),
            );
            if !version.at_least(1, 50) {
                fill(
                    config,
                    json!({
                        "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "",
                        "Hostname": "", "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false,
                    }),
                );
            }
        }
    }
    value
}

/// Adds the fields that are not there.
fn fill(fields: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        for (name, value) in more {
            fields.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ApiVersion {
        crate::version::split(&format!("/v{text}/x")).unwrap().0
    }

    #[test]
    fn older_versions_have_more_fields() {
        let image = Inspect { size: 7, ..Inspect::default() };
        let old = inspect(image.clone(), version("1.43"));
        assert_eq!(old["VirtualSize"], 7);
        assert_eq!(old["ContainerConfig"], Value::Null);
        assert!(old.as_object().unwrap().contains_key("ContainerConfig"));
        let new = inspect(image, ApiVersion::NEWEST);
        assert!(!new.as_object().unwrap().contains_key("VirtualSize"));
    }

    #[test]
    fn nameless_images_are_none_before_1_43() {
        let old = summaries(vec![Summary::default()], version("1.42"));
        assert_eq!(old[0]["RepoTags"][0], "<none>:<none>");
        assert_eq!(old[0]["Containers"], -1);
        let new = summaries(vec![Summary { containers: 2, ..Summary::default() }], version("1.51"));
        assert_eq!(new[0]["RepoTags"], json!([]));
        assert_eq!(new[0]["Containers"], 2);
    }
}
