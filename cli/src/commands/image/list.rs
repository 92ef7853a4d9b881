//! `wharf images`.

use std::collections::BTreeMap;

use wharf_docker::image::Summary;
use wharf_vocab::ImageReference;

use crate::error::CliError;
use crate::options::filter::{self, Filters};
use crate::output::format::RowFormat;
use crate::output::text::{local_time, short_id, since};
use crate::output::units::human_size;
use crate::session::{Session, print, warn};
use crate::template::{Struct, Value};
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct ListOptions {
    /// Show all images (default hides intermediate images)
    #[arg(long, short)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(long, short, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    /// Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(long, short)]
    quiet: bool,
    args: Vec<String>,
}

const HEADERS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

const CREATED: &str = "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}";

fn source(format: &str, quiet: bool, digests: bool) -> String {
    let raw = |digest: &str| {
        format!(
            "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
        )
    };
    match format {
        "table" if quiet => "{{.ID}}".to_owned(),
        "table" if digests => {
            format!(
                "table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{{{{.Digest}}}}\t{{{{.ID}}}}\t{CREATED}\t{{{{.Size}}}}"
            )
        }
        "table" => format!("table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{{{{.ID}}}}\t{CREATED}\t{{{{.Size}}}}"),
        "raw" if quiet => "image_id: {{.ID}}".to_owned(),
        "raw" if digests => raw("digest: {{.Digest}}\n"),
        "raw" => raw(""),
        custom if custom.starts_with("table") && digests && !custom.contains("{{.Digest}}") => {
            format!("{custom}\t{{{{.Digest}}}}")
        }
        custom => custom.to_owned(),
    }
}

/// The rows of one image: (repository, tag, digest).
fn names(image: &Summary, digests_shown: bool, digest_rows: bool) -> Vec<(String, String, String)> {
    let none = || "<none>".to_owned();
    let placeholder = |list: &[String], text: &str| list.is_empty() || list == [text];
    let empty = image.repo_tags.is_empty() && image.repo_digests.is_empty();
    if empty || (placeholder(&image.repo_tags, "<none>:<none>") && image.repo_digests == ["<none>@<none>"]) {
        return vec![(none(), none(), none())];
    }
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_tags.iter().filter_map(|text| ImageReference::parse(text).ok()) {
        if let Some(tag) = reference.tag() {
            tags.entry(reference.familiar_name()).or_default().push(tag.to_owned());
        }
    }
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_digests.iter().filter_map(|text| ImageReference::parse(text).ok()) {
        if let Some(digest) = reference.digest() {
            digests.entry(reference.familiar_name()).or_default().push(digest.to_string());
        }
    }
    let mut out = Vec::new();
    for (repository, tags) in tags {
        let of_it = digests.remove(&repository).filter(|_| digests_shown).unwrap_or_else(|| vec![none()]);
        for tag in tags {
            for digest in &of_it {
                out.push((repository.clone(), tag.clone(), digest.clone()));
            }
        }
    }
    for (repository, digests) in digests {
        if digest_rows {
            out.extend(digests.into_iter().map(|digest| (repository.clone(), none(), digest)));
        } else {
            out.push((repository, none(), String::new()));
        }
    }
    out
}

fn row(image: &Summary, (repository, tag, digest): (String, String, String), trunc: bool) -> Struct {
    let known = |n: i64, digits| if n == -1 { "N/A".to_owned() } else { human_size(n as f64, digits) };
    let unique =
        if image.size == -1 || image.shared_size == -1 { -1 } else { image.size - image.shared_size };
    let containers = if image.containers == -1 { "N/A".to_owned() } else { image.containers.to_string() };
    Struct::row(
        "*formatter.imageContext",
        vec![
            ("Containers", Value::Str(containers)),
            ("CreatedAt", Value::Str(local_time(image.created))),
            ("CreatedSince", Value::Str(since(image.created) + " ago")),
            ("Digest", Value::Str(digest)),
            ("ID", Value::Str(if trunc { short_id(&image.id) } else { image.id.clone() })),
            ("Repository", Value::Str(repository)),
            ("SharedSize", Value::Str(known(image.shared_size, 4))),
            ("Size", Value::Str(human_size(image.size as f64, 3))),
            ("Tag", Value::Str(tag)),
            ("UniqueSize", Value::Str(known(unique, 4))),
            ("VirtualSize", Value::Str(human_size(image.size as f64, 4))),
        ],
    )
}

/// Words that people mean as a verb when they type `wharf images WORD`.
const VERBS: &[&str] = &[
    "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save",
    "tag",
];

impl Options for ListOptions {
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";
    const ABOUT: &'static str = "List images";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let configured = &session.config().images_format;
        let wanted = match self.format.as_str() {
            "" if !configured.is_empty() && !self.quiet => configured,
            "" => "table",
            given => given,
        };
        let source = source(wanted, self.quiet, self.digests);
        let format = RowFormat::parse(&source)?;
        let mut filters: Filters = self.filter.into_iter().collect();
        if let Some(name) = self.args.first() {
            filters.add("reference", name);
        }
        let query = Query::new().flag("all", self.all).text("filters", &filters.to_query());
        let images: Vec<Summary> = session.client()?.get("/images/json", query).await?.json().await?;
        let digests_shown = self.digests || source.contains("{{.Digest}}");
        let rows = images.iter().flat_map(|image| {
            names(image, digests_shown, self.digests).into_iter().map(|name| row(image, name, !self.no_trunc))
        });
        print(&format.render(HEADERS, rows)?)?;
        if let Some(name) =
            self.args.first().filter(|name| images.is_empty() && VERBS.contains(&name.as_str()))
            && session.path == "wharf images"
        {
            warn(&format!("\nNo images found matching {name:?}: did you mean \"wharf image {name}\"?"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(tags: &[&str], digests: &[&str], shown: bool) -> Vec<String> {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let image = Summary { repo_tags: list(tags), repo_digests: list(digests), ..Summary::default() };
        names(&image, shown, shown).into_iter().map(|(r, t, d)| format!("{r} {t} {d}")).collect()
    }

    #[test]
    fn an_image_has_a_row_for_each_of_its_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("busybox@{digest}");
        assert_eq!(names_of(&[], &[], false), ["<none> <none> <none>"]);
        assert_eq!(names_of(&["<none>:<none>"], &["<none>@<none>"], false), ["<none> <none> <none>"]);
        assert_eq!(
            names_of(&["docker.io/library/busybox:1", "r:5/x:2"], &[], false),
            ["busybox 1 <none>", "r:5/x 2 <none>"]
        );
        assert_eq!(names_of(&["busybox:1"], &[&by_digest], false), ["busybox 1 <none>"]);
        assert_eq!(names_of(&["busybox:1"], &[&by_digest], true), [format!("busybox 1 {digest}")]);
        assert_eq!(names_of(&[], &[&by_digest], false), ["busybox <none> "]);
        assert_eq!(names_of(&[], &[&by_digest], true), [format!("busybox <none> {digest}")]);
    }
}
