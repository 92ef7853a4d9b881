//! `-v [SOURCE:]TARGET[:MODE]`.

/// Where a `-v` goes in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A host path or a named volume, with relative host paths made absolute.
    Bind(String),
    /// A target alone: an anonymous volume.
    Anonymous(String),
}

pub(crate) fn parse(spec: &str) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let sections: Vec<&str> = spec.split(':').collect();
    // one or two characters are a path whatever they are
    if sections.len() == 1 || spec.len() <= 2 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    if sections.iter().any(|section| section.is_empty()) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    if sections.len() > 3 {
        return Err(format!("invalid spec: {spec}: too many colons"));
    }
    let source = sections[0];
    if source.starts_with('.') {
        let absolute = std::path::absolute(source).map_err(|bad| format!("invalid spec: {spec}: {bad}"))?;
        return Ok(Volume::Bind(format!("{}:{}", clean(&absolute), sections[1..].join(":"))));
    }
    Ok(Volume::Bind(spec.to_owned()))
}

/// Without `.` and `..`, as Go's `filepath.Abs` gives it.
pub(super) fn clean(path: &std::path::Path) -> String {
    use std::path::Component;
    let mut out = std::path::PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_in_every_form() {
        let bind = |text: &str| Ok(Volume::Bind(text.to_owned()));
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".to_owned())));
        assert_eq!(parse("/a:/b"), bind("/a:/b"));
        assert_eq!(parse("name:/b:ro,nocopy"), bind("name:/b:ro,nocopy"));
        let here = std::env::current_dir().expect("cwd");
        assert_eq!(parse("./x:/b:ro"), bind(&format!("{}/x:/b:ro", here.display())));
        assert_eq!(parse(".:/b"), bind(&format!("{}:/b", here.display())));
        assert_eq!(parse("../x:/b"), bind(&format!("{}/x:/b", here.parent().expect("parent").display())));
        assert_eq!(parse("/a::ro"), Err("invalid spec: /a::ro: empty section between colons".to_owned()));
        assert_eq!(parse("/a:/b:ro:x"), Err("invalid spec: /a:/b:ro:x: too many colons".to_owned()));
        assert!(parse("").is_err());
    }
}
