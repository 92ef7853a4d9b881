use engine_core::filter::Filters;
use engine_core::image::ImageSource;
use engine_core::usage::ImageUser;
use engine_images::{DeleteError, DeleteRequest, ImportRequest};
use tokio::sync::mpsc;
use wharf_docker::image::Deleted;
use wharf_kinds::Kind;

use crate::samples::{Sample, gzip, tar};
use crate::stack::Stack;

async fn delete(stack: &Stack, name: &str, force: bool) -> Result<Vec<String>, DeleteError> {
    let report = stack.images.delete(&DeleteRequest { name: name.into(), force }).await?;
    let line = |d: Deleted| if d.untagged.is_empty() { format!("-{}", d.deleted) } else { d.untagged };
    Ok(report.into_iter().map(line).collect())
}

fn user(image: &Sample, running: bool) -> ImageUser {
    ImageUser {
        container_id: "c0ffee".repeat(10),
        container_name: "box".into(),
        running,
        image_id: image.id(),
        image_name: "app".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_lists_are_filtered_as_docker_does() {
    let stack = Stack::start().await;
    let (one, two) = (Sample::new("amd64", &["one"]), Sample::new("amd64", &["two", "more"]));
    stack.load(&one.docker_archive(&["app:1", "app:stable"])).await.1.unwrap();
    stack.load(&two.docker_archive(&[])).await.1.unwrap();
    let names = async |filters: &str| {
        let filters = Filters::parse(filters).unwrap();
        let images = stack.images.list(&filters).await.unwrap();
        images.into_iter().map(|i| (i.repo_tags.join(","), i.size > 0)).collect::<Vec<_>>()
    };
    assert_eq!(names("").await.len(), 2);
    assert_eq!(names(r#"{"dangling":["true"]}"#).await, [(String::new(), true)]);
    assert_eq!(names(r#"{"dangling":["false"]}"#).await, [("app:1,app:stable".to_owned(), true)]);
    assert_eq!(names(r#"{"reference":["app:s*"]}"#).await, [("app:stable".to_owned(), true)]);
    assert_eq!(names(r#"{"reference":["other"]}"#).await, []);
    assert_eq!(names(r#"{"label":["tier=front"]}"#).await.len(), 2);
    assert_eq!(names(r#"{"label":["tier=back"]}"#).await, []);
    assert_eq!(names(r#"{"since":["app:1"]}"#).await, []);
    assert_eq!(names(r#"{"until":["2030-01-01"]}"#).await.len(), 2);
    let error = stack.images.list(&Filters::parse(r#"{"color":["red"]}"#).unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid filter 'color'");
    let error = stack.images.list(&Filters::parse(r#"{"before":["gone"]}"#).unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "No such image: gone:latest");
    let shown = stack.images.inspect("app:1", None).await.unwrap();
    assert_eq!(shown.id, one.id());
    assert_eq!(shown.repo_tags, ["app:1", "app:stable"]);
    assert_eq!(shown.root_fs.layers, [one.diff_ids[0].to_string()]);
    assert_eq!(shown.created.unwrap().to_string(), "2024-01-02T03:04:05Z");
    let history = stack.images.history(&two.id(), None).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].id.as_str(), history[1].id.as_str()), (two.id().as_str(), "<missing>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_deleting_a_name_or_an_image() {
    let stack = Stack::start().await;
    let image = Sample::new("amd64", &["one"]);
    stack.load(&image.docker_archive(&["app:1"])).await.1.unwrap();
    stack.images.tag("app:1", "localhost:5000/app", "").await.unwrap();
    let error = delete(&stack, &image.id(), false).await.unwrap_err();
    let short = &image.id()[7..19];
    let expected = format!(
        "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    );
    assert_eq!((error.to_string(), error.kind()), (expected, Kind::Conflict));
    assert_eq!(delete(&stack, "app:1", false).await.unwrap(), ["app:1"]);
    assert!(stack.images.resolve("app:1", None).await.is_err());
    let gone = delete(&stack, "localhost:5000/app", false).await.unwrap();
    let expected = [
        "localhost:5000/app:latest".to_owned(),
        format!("-{}", image.id()),
        format!("-{}", image.diff_ids[0]),
    ];
    assert_eq!(gone, expected);
    assert_eq!(stack.backend.content_list(&[]).await.unwrap(), []);
    assert_eq!(stack.backend.snapshot_list(&[]).await.unwrap(), []);
    let error = delete(&stack, "app:1", false).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("No such image: app:1", Kind::NotFound));
    let (events, _) = stack.events.subscribe(Some(0), None);
    let actions: Vec<_> = events.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["load", "tag", "untag", "untag", "delete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_in_use_is_not_deleted() {
    let stack = Stack::start().await;
    let image = Sample::new("amd64", &["one"]);
    let short = image.id()[7..19].to_owned();
    stack.load(&image.docker_archive(&["app:1"])).await.1.unwrap();
    stack.usage.put(user(&image, false));
    let text = async |name: &str, force| delete(&stack, name, force).await.unwrap_err().to_string();
    assert_eq!(
        text("app:1", false).await,
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container c0ffeec0ffee is using its referenced image {short}"
        )
    );
    assert_eq!(
        text(&short, false).await,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container c0ffeec0ffee"
        )
    );
    stack.usage.put(user(&image, true));
    assert_eq!(
        text(&image.id(), true).await,
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container c0ffeec0ffee"
        )
    );
    // forced, the name goes and the image stays
    assert_eq!(delete(&stack, "app:1", true).await.unwrap(), ["app:1"]);
    assert_eq!(stack.images.resolve(&image.id(), None).await.unwrap().id, image.id());
    let report = stack.images.prune(&Filters::default()).await.unwrap();
    assert_eq!(report.images_deleted, None);
    stack.usage.remove(&"c0ffee".repeat(10));
    let report = stack.images.prune(&Filters::default()).await.unwrap();
    assert_eq!(report.images_deleted.unwrap()[0].deleted, image.id());
    assert!(report.space_reclaimed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_is_saved_can_be_loaded() {
    let stack = Stack::start().await;
    let (one, two) = (Sample::new("amd64", &["base", "one"]), Sample::new("amd64", &["base", "two"]));
    stack.load(&one.oci_archive(Some("docker.io/library/app:1"))).await.1.unwrap();
    stack.load(&two.docker_archive(&["app:2"])).await.1.unwrap();
    let mut archive = Vec::new();
    let mut saved = stack.images.save(&["app".into(), one.id()], None).await.unwrap();
    while let Some(chunk) = saved.next().await.unwrap() {
        archive.extend_from_slice(&chunk);
    }
    let mut files: Vec<String> = tar::Archive::new(archive.as_slice())
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    files.retain(|f| !f.starts_with("blobs/sha256/"));
    assert_eq!(files, ["blobs/", "index.json", "manifest.json", "oci-layout"]);
    let other = Stack::start().await;
    let (lines, done) = other.load(&archive).await;
    done.unwrap();
    assert_eq!(lines, [r#"{"stream":"Loaded image: app:1\n"}"#, r#"{"stream":"Loaded image: app:2\n"}"#]);
    assert_eq!(other.images.resolve("app:1", None).await.unwrap().id, one.id());
    assert_eq!(other.images.resolve("app:2", None).await.unwrap().id, two.id());
    let error = stack.images.save(&["app:1".into(), "gone".into()], None).await.err().unwrap();
    assert_eq!(error.to_string(), "No such image: gone:latest");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_archive_of_files_becomes_an_image() {
    let stack = Stack::start().await;
    let import = async |archive: Vec<u8>, changes: &[&str]| {
        let (sender, receiver) = mpsc::channel(1);
        let request = ImportRequest {
            archive: receiver,
            repository: "made".into(),
            tag: "1".into(),
            message: "by hand".into(),
            changes: changes.iter().map(|c| (*c).to_owned()).collect(),
            platform: None,
        };
        let feed = async move {
            let _ = sender.send(Ok(archive.into())).await;
        };
        tokio::join!(stack.images.import(request), feed).0
    };
    let files = tar(&[("etc/name", b"value")]);
    for archive in [files.clone(), gzip(&files), zstd::encode_all(files.as_slice(), 1).unwrap()] {
        let id = import(archive, &["CMD [\"/x\"]", "ENV A=b"]).await.unwrap();
        let resolved = stack.images.resolve("made:1", None).await.unwrap();
        assert_eq!(resolved.id, id.to_string());
        assert_eq!(resolved.config.env, ["A=b"]);
        assert_eq!(stack.images.inspect("made:1", None).await.unwrap().comment, "by hand");
    }
    let before = stack.backend.content_list(&[]).await.unwrap().len();
    assert!(
        import(files.clone(), &["RUN x"])
            .await
            .unwrap_err()
            .to_string()
            .contains("RUN is not a valid change")
    );
    assert!(import(files[..514].to_vec(), &[]).await.is_err());
    assert!(import(Vec::new(), &[]).await.is_err());
    assert!(import(gzip(&files)[..40].to_vec(), &[]).await.is_err());
    let lease = stack.backend.lease_create("sweep", &Default::default(), None).await.unwrap();
    stack.backend.lease_delete(&lease, true).await.unwrap();
    assert_eq!(stack.backend.content_list(&[]).await.unwrap().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_embedded_image_is_loaded_once() {
    let stack = Stack::start().await;
    assert!(stack.images.load_embedded().await.unwrap());
    let resolved = stack.images.resolve("wharf/hello", None).await.unwrap();
    assert_eq!(resolved.config.cmd.unwrap(), ["/hello"]);
    assert!(!stack.images.load_embedded().await.unwrap());
    delete(&stack, "wharf/hello", false).await.unwrap();
    assert!(!stack.images.load_embedded().await.unwrap(), "a removed image stays removed");
    assert!(stack.images.resolve("wharf/hello", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_short_ids_must_mean_one_image() {
    let stack = Stack::start().await;
    // enough images that two begin with one digit
    for n in 0..17 {
        stack.load(&Sample::new("amd64", &[&format!("image {n}")]).docker_archive(&[])).await.1.unwrap();
    }
    let ids: Vec<String> =
        stack.images.list(&Filters::default()).await.unwrap().into_iter().map(|i| i.id).collect();
    let first = |id: &String| id[7..8].to_owned();
    let doubled =
        ids.iter().map(first).find(|c| ids.iter().filter(|id| first(id) == *c).count() > 1).unwrap();
    let error = stack.images.inspect(&doubled, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("ambiguous"), "{error}");
}
