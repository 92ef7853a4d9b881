//! `containerd.services.introspection.v1`: what this daemon consists of, in containerd's words.

mod plugins;

use lifecycle_tasks::Tasks;
use prost::Message;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::introspection::v1::introspection_server::Introspection;
use wharf_containerd::containerd::services::introspection::v1::{
    Plugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest, PluginsResponse, ServerResponse,
};
use wharf_containerd::containerd::types::RuntimeRequest;
use wharf_containerd::to_any;
use wharf_kinds::Kind;
use wharf_vocab::Filter;

use crate::status::status;
use crate::storage::StoragePolicy;

pub(crate) struct IntrospectionService {
    pub(crate) tasks: Tasks,
    /// Kept in the root folder, so that it is the installation's.
    pub(crate) uuid: String,
    pub(crate) plugins: Vec<Plugin>,
}

impl IntrospectionService {
    pub(crate) fn new(tasks: Tasks, uuid: String, root: &std::path::Path, policy: &StoragePolicy) -> Self {
        IntrospectionService { tasks, uuid, plugins: plugins::list(root, policy) }
    }
}

#[tonic::async_trait]
impl Introspection for IntrospectionService {
    async fn plugins(&self, request: Request<PluginsRequest>) -> Result<Response<PluginsResponse>, Status> {
        let filter =
            Filter::parse_all(&request.into_inner().filters).map_err(|error| status(error.kind(), error))?;
        let plugins = self
            .plugins
            .iter()
            .filter(|plugin| {
                filter.matches(|path| match path {
                    ["type"] => Some(plugin.r#type.as_str().into()),
                    ["id"] => Some(plugin.id.as_str().into()),
                    _ => None,
                })
            })
            .cloned()
            .collect();
        Ok(Response::new(PluginsResponse { plugins }))
    }

    async fn server(&self, _: Request<()>) -> Result<Response<ServerResponse>, Status> {
        Ok(Response::new(ServerResponse {
            uuid: self.uuid.clone(),
            pid: std::process::id().into(),
            pidns: pid_namespace().unwrap_or_default(),
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        let request = request.into_inner();
        let known = self.plugins.iter().find(|p| p.r#type == request.r#type && p.id == request.id);
        let Some(plugin) = known.cloned() else {
            let text = format!("plugin {}.{} not found: not found", request.r#type, request.id);
            return Err(status(Kind::NotFound, text));
        };
        let mut response = PluginInfoResponse { plugin: Some(plugin), extra: None };
        let Some(options) = request.options else { return Ok(Response::new(response)) };
        if !plugins::is_task_runtime(&request.r#type, &request.id) {
            return Err(status(
                Kind::Unimplemented,
                "plugin does not provided extra information: not implemented",
            ));
        }
        let runtime = RuntimeRequest::decode(options.value.as_slice())
            .map_err(|error| status(Kind::InvalidArgument, format_args!("{error}: invalid argument")))?;
        let info = self
            .tasks
            .runtime_info(&runtime.runtime_path, runtime.options.as_ref())
            .await
            .map_err(|error| status(error.kind(), error))?;
        response.extra = Some(to_any("containerd.types.RuntimeInfo", &info));
        Ok(Response::new(response))
    }
}

/// The inode of this process's pid namespace, by which clients tell whether pids mean the same to them.
fn pid_namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_namespace_is_an_inode_number() {
        assert!(pid_namespace().expect("readable") > 0);
    }
}
