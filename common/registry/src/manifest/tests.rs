use super::*;

fn digest(of: &str) -> Digest {
    Digest::sha256(of.as_bytes())
}

fn entry(platform: &str, of: &str) -> serde_json::Value {
    let platform: Platform = platform.parse().unwrap();
    serde_json::json!({"mediaType": mt::OCI_MANIFEST, "digest": digest(of), "size": 3, "platform": platform})
}

fn image(config_type: &str, layer_types: &[&str]) -> Vec<u8> {
    let layers: Vec<_> = layer_types
        .iter()
        .map(|t| serde_json::json!({"mediaType": t, "digest": digest(t), "size": 1}))
        .collect();
    let config = serde_json::json!({"mediaType": config_type, "digest": digest("c"), "size": 2});
    serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers})).unwrap()
}

fn index(entries: Vec<serde_json::Value>) -> Index {
    let bytes = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap();
    match Manifest::parse("", &bytes).unwrap() {
        Manifest::Index(index) => index,
        Manifest::Image(_) => panic!("it is an index"),
    }
}

#[test]
fn images_are_read_with_the_announced_media_type() {
    let bytes = image(mt::DOCKER_CONFIG, &[mt::DOCKER_LAYER_GZIP]);
    let manifest = Manifest::parse(mt::DOCKER_MANIFEST, &bytes).unwrap();
    assert_eq!(manifest.media_type(), mt::DOCKER_MANIFEST);
    assert_eq!(Manifest::parse("text/plain", &bytes).unwrap().media_type(), mt::OCI_MANIFEST);
}

#[test]
fn schema_one_is_refused_by_type_and_by_shape() {
    for (hint, body) in [
        (mt::DOCKER_SCHEMA1_SIGNED, "{}"),
        ("", r#"{"schemaVersion":1}"#),
        ("", r#"{"schemaVersion":2,"fsLayers":[]}"#),
    ] {
        assert!(matches!(Manifest::parse(hint, body.as_bytes()), Err(ManifestError::Schema1)), "{body}");
    }
}

#[test]
fn ambiguous_documents_are_refused() {
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    assert!(matches!(Manifest::parse("", both.as_bytes()), Err(ManifestError::Malformed(_))));
    let contradicting = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, mt::DOCKER_LIST);
    assert!(Manifest::parse(mt::OCI_INDEX, contradicting.as_bytes()).is_err());
}

#[test]
fn what_is_no_image_is_refused() {
    let helm = image("application/vnd.cncf.helm.config.v1+json", &[]);
    assert!(matches!(Manifest::parse(mt::OCI_MANIFEST, &helm), Err(ManifestError::MediaType(_))));
    let odd_layer = image(mt::OCI_CONFIG, &["application/x-squashfs"]);
    assert!(matches!(Manifest::parse(mt::OCI_MANIFEST, &odd_layer), Err(ManifestError::MediaType(_))));
    let tall = image(mt::OCI_CONFIG, &[mt::OCI_LAYER; MAX_LAYERS + 1]);
    assert!(matches!(Manifest::parse(mt::OCI_MANIFEST, &tall), Err(ManifestError::TooMany { .. })));
}

#[test]
fn malformed_documents_are_errors() {
    for body in ["", "[]", "{}", r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":1}]}"#] {
        assert!(Manifest::parse(mt::OCI_INDEX, body.as_bytes()).is_err(), "{body}");
    }
    assert!(Manifest::parse("", &vec![b' '; MAX_MANIFEST + 1]).is_err());
}

#[test]
fn the_best_platform_is_chosen() {
    let index = index(vec![
        entry("linux/arm64", "arm64"),
        entry("linux/amd64", "amd64"),
        entry("linux/arm/v6", "v6"),
    ]);
    let choose = |p: &str| index.choose(&p.parse().unwrap()).map(|d| d.digest.clone());
    assert_eq!(choose("linux/amd64").unwrap(), digest("amd64"));
    assert_eq!(choose("linux/arm/v7").unwrap(), digest("v6"));
    let error = choose("linux/s390x").unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
}

#[test]
fn attestations_are_never_chosen() {
    let mut attestation = entry("linux/amd64", "attestation");
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let found = index(vec![attestation, entry("linux/amd64", "image")]);
    assert_eq!(found.choose(&"linux/amd64".parse().unwrap()).unwrap().digest, digest("image"));
}

proptest::proptest! {
    #[test]
    fn no_document_panics(head in "\\{\"(schemaVersion|manifests|layers|config|mediaType)\":", rest in "\\PC{0,200}") {
        let _ = Manifest::parse(mt::OCI_INDEX, format!("{head}{rest}").as_bytes());
        let _ = Manifest::parse("", rest.as_bytes());
    }
}
