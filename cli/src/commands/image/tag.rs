//! `wharf tag`.

use wharf_vocab::ImageReference;

use crate::error::CliError;
use crate::session::Session;
use crate::transport::RequestBody;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct TagOptions {
    args: Vec<String>,
}

impl Options for TagOptions {
    const USAGE: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";
    const ABOUT: &'static str = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let [source, target] = self.args.as_slice() else { return Ok(()) };
        let target = ImageReference::parse(target).map_err(|bad| {
            CliError::invalid(format!(
                "Error parsing reference: {target:?} is not a valid repository/tag: {bad}"
            ))
        })?;
        if target.digest().is_some() {
            return Err(CliError::invalid("refusing to create a tag with a digest reference"));
        }
        let target = target.with_default_tag();
        let query =
            Query::new().set("repo", target.familiar_name()).text("tag", target.tag().unwrap_or_default());
        let path = format!("/images/{}/tag", escape_path(source));
        session.client()?.post(&path, query, RequestBody::Empty).await?.bytes().await?;
        Ok(())
    }
}
