//! Bad requests are refused with the codes and the words of containerd 2.4, which clients look for and people know.
//!
//! Source: the same requests sent to both daemons, call by call.

mod served;

use std::collections::HashMap;

use prost_types::{Any, FieldMask};
use served::{connect, settings, start, within};
use tonic::Code;
use wharf_containerd::containerd::services::containers::v1 as containers;
use wharf_containerd::containerd::services::content::v1 as content;
use wharf_containerd::containerd::services::events::v1 as events;
use wharf_containerd::containerd::services::images::v1 as images;
use wharf_containerd::containerd::services::leases::v1 as leases;
use wharf_containerd::containerd::services::namespaces::v1 as namespaces;
use wharf_containerd::containerd::services::snapshots::v1 as snapshots;
use wharf_containerd::containerd::services::tasks::v1 as tasks;

/// Asserts that a call is refused with a code and a text.
macro_rules! refused {
    ($call:expr, $code:ident, $text:expr) => {
        let text: &str = $text;
        let error = $call.await.expect_err(text);
        assert_eq!((error.code(), error.message()), (Code::$code, text));
    };
}

const NOT_AN_ID: &str = r"must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument";

fn too_long() -> HashMap<String, String> {
    HashMap::from([("k".to_owned(), "x".repeat(4096))])
}

fn container(id: &str) -> containers::Container {
    let runtime = containers::container::Runtime { name: "io.containerd.runc.v2".into(), options: None };
    let spec = Any { type_url: "t".into(), value: b"{}".to_vec() };
    containers::Container { id: id.into(), runtime: Some(runtime), spec: Some(spec), ..Default::default() }
}

#[tokio::test]
async fn namespace_is_asked_for_and_checked_first() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let mut images = images::images_client::ImagesClient::new(channel.clone());
    let get = || images::GetImageRequest { name: "x".into() };
    refused!(images.get(get()), FailedPrecondition, "namespace is required: failed precondition");
    refused!(
        images.get(within("a/b", get())),
        InvalidArgument,
        &format!("namespace validation: identifier \"a/b\" {NOT_AN_ID}")
    );
    refused!(images.get(within("ns", get())), NotFound, "image \"x\": not found");
    let mut namespaces = namespaces::namespaces_client::NamespacesClient::new(channel);
    let create = |name: &str, labels| namespaces::CreateNamespaceRequest {
        namespace: Some(namespaces::Namespace { name: name.into(), labels }),
    };
    let none = HashMap::new;
    refused!(
        namespaces.create(create("", none())),
        InvalidArgument,
        "identifier must not be empty: invalid argument"
    );
    refused!(
        namespaces.create(create("a..b", none())),
        InvalidArgument,
        &format!("identifier \"a..b\" {NOT_AN_ID}")
    );
    refused!(
        namespaces.create(create("n", too_long())),
        InvalidArgument,
        "namespace.Labels: label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: k: invalid argument"
    );
    namespaces.create(create("n", none())).await.expect("created");
    refused!(namespaces.create(create("n", none())), AlreadyExists, "namespace \"n\": already exists");
}

#[tokio::test]
async fn containers_change_only_by_known_and_mutable_fields() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let mut client = containers::containers_client::ContainersClient::new(channel.clone());
    let create = |container| within("ns", containers::CreateContainerRequest { container: Some(container) });
    refused!(
        client.create(create(container(""))),
        InvalidArgument,
        "create container failed validation: container.ID: identifier must not be empty: invalid argument"
    );
    client.create(create(container("c1"))).await.expect("created");
    refused!(client.create(create(container("c1"))), AlreadyExists, "container \"c1\": already exists");
    let update = |container: containers::Container, paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(FieldMask { paths });
        within("ns", containers::UpdateContainerRequest { container: Some(container), update_mask })
    };
    refused!(client.update(update(container("none"), &[])), NotFound, "container \"none\": not found");
    for field in ["runtime", "foo"] {
        refused!(
            client.update(update(container("c1"), &[field])),
            InvalidArgument,
            &format!("cannot update \"{field}\" field on \"c1\": invalid argument")
        );
    }
    let labelled = containers::Container { labels: too_long(), ..container("c1") };
    refused!(
        client.update(update(labelled, &["labels.k"])),
        InvalidArgument,
        "update failed validation: containers.Labels: label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: k: invalid argument"
    );
    let mut tasks = tasks::tasks_client::TasksClient::new(channel);
    let start =
        |id: &str| within("ns", tasks::StartRequest { container_id: id.into(), ..Default::default() });
    refused!(tasks.start(start("c1")), NotFound, "task c1 not found");
    refused!(tasks.start(start("c2")), NotFound, "container \"c2\" in namespace \"ns\": not found");
}

#[tokio::test]
async fn filters_are_one_language_for_every_service() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let mut client = containers::containers_client::ContainersClient::new(channel.clone());
    let mut images = images::images_client::ImagesClient::new(channel.clone());
    let mut leases = leases::leases_client::LeasesClient::new(channel);
    for (filter, wrong) in [
        ("id=c1", "[id >|=|< c1]: unsupported operator \"=\""),
        ("id==", "[id==]: expected value or quoted"),
        ("==c1", "[ >|=|< =c1]: expected field or quoted"),
        ("id==c1,", "[id==c1,]: expected field or quoted"),
        ("id==|c1|", "[id== >|||< c1|]: invalid quote encountered"),
        ("id==\"c1", "[id== >|\"|< c1]: quoted literal not terminated"),
        ("id!~=c1", "[id >|!|< ~=c1]: unsupported operator \"!~=\""),
        ("id==c1 ", "[id==c1 >| |< ]: unexpected input:  "),
        ("labels.==x", "[labels. >|=|< =x]: expected field or quoted"),
    ] {
        let text = format!("filters: parse error: {wrong}: invalid argument");
        let filters = vec![filter.to_owned()];
        let list = containers::ListContainersRequest { filters: filters.clone() };
        refused!(client.list(within("ns", list)), InvalidArgument, &text);
        let list = images::ListImagesRequest { filters: filters.clone() };
        refused!(images.list(within("ns", list)), InvalidArgument, &text);
        refused!(leases.list(within("ns", leases::ListRequest { filters })), InvalidArgument, &text);
    }
}

#[tokio::test]
async fn leases_content_snapshots_and_events_name_what_is_wrong() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let mut client = leases::leases_client::LeasesClient::new(channel.clone());
    let lease = leases::CreateRequest { id: "l1".into(), ..Default::default() };
    client.create(within("ns", lease)).await.expect("created");
    let add = |lease: &str, id: &str, kind: &str| {
        let resource = Some(leases::Resource { id: id.into(), r#type: kind.into() });
        within("ns", leases::AddResourceRequest { id: lease.into(), resource })
    };
    refused!(client.add_resource(add("none", "x", "content")), NotFound, "lease \"none\": not found");
    refused!(
        client.add_resource(add("l1", "x", "content")),
        InvalidArgument,
        "invalid content resource id x: invalid checksum digest format: invalid argument"
    );
    refused!(
        client.add_resource(add("l1", "k", "snapshots")),
        InvalidArgument,
        "invalid snapshot resource type snapshots: invalid argument"
    );
    refused!(
        client.add_resource(add("l1", "k", "snapshots/")),
        InvalidArgument,
        "invalid snapshot resource type snapshots/: invalid argument"
    );
    refused!(
        client.add_resource(add("l1", "k", "other")),
        Unimplemented,
        "resource type other not supported yet: not implemented"
    );
    let mut client = content::content_client::ContentClient::new(channel.clone());
    let digest = format!("sha256:{}", "0".repeat(64));
    refused!(
        client.info(within("ns", content::InfoRequest { digest: digest.clone() })),
        NotFound,
        &format!("content digest {digest}: not found")
    );
    refused!(
        client.abort(within("ns", content::AbortRequest { r#ref: "r".into() })),
        NotFound,
        "reference r: not found"
    );
    let mut client = snapshots::snapshots_client::SnapshotsClient::new(channel.clone());
    let stat = |snapshotter: &str| {
        within("ns", snapshots::StatSnapshotRequest { snapshotter: snapshotter.into(), key: "k".into() })
    };
    refused!(client.stat(stat("")), InvalidArgument, "snapshotter argument missing: invalid argument");
    refused!(client.stat(stat("nope")), InvalidArgument, "snapshotter not loaded: nope: invalid argument");
    refused!(client.stat(stat("overlayfs")), NotFound, "snapshot k does not exist: not found");
    let mut client = events::events_client::EventsClient::new(channel);
    for (topic, wrong) in [
        ("", "must not be empty"),
        ("a", "must start with '/'"),
        ("/", "must have at least one component"),
        ("/a//b", "failed validation on component \"\": identifier must not be empty"),
    ] {
        let publish = events::PublishRequest { topic: topic.into(), event: None };
        let text = format!("envelope topic \"{topic}\": {wrong}: invalid argument");
        refused!(client.publish(within("ns", publish)), InvalidArgument, &text);
    }
}
