//! The daemon killed at the failpoints of lifecycle-images: docs/failpoints.md.
//!
//! Needs the daemon built with the feature `failpoints` in `failpoints/` beside `WHARF_BIN_DIR`.

use wharf_containerd::containerd::types::transfer::{ImageStore, OciRegistry, RegistryResolver};
use wharf_failpoints::Point;

use crate::layout;
use crate::{LAYERS, NAMESPACE, Setup, export, import, prefixed};

/// What is under way when the daemon dies.
#[derive(Clone, Copy, Debug)]
enum Work {
    Pull,
    Import,
    Push,
}

impl Setup {
    async fn work(&self, work: Work, archive: &[u8]) -> Result<(), tonic::Status> {
        let reference = self.reference();
        match work {
            Work::Pull => self.pull(&reference, RegistryResolver::default(), "").await,
            Work::Import => import(self, NAMESPACE, archive, prefixed(&reference)).await,
            Work::Push => {
                let from = ImageStore { name: reference, ..Default::default() };
                let other = format!("127.0.0.1:{}/pushed/again:v1", self.registry.port);
                let to = OciRegistry { reference: other, resolver: None };
                self.daemon.transfer(NAMESPACE, ("ImageStore", from), ("OCIRegistry", to)).await
            }
        }
    }
}

/// Dies at this passage of the point; everything is as it should be afterwards, and the work can be done again.
async fn killed_at(point: Point, passage: u32, work: Work) {
    eprintln!("--- {} at passage {passage} of a {work:?}", point.name());
    let mut setup = Setup::start_armed(&format!("{}=kill@{passage}", point.name())).await;
    let archive = match work {
        // made by another daemon, which passes no point
        Work::Import => {
            let other = Setup::start(false).await;
            other.pull(&other.reference(), RegistryResolver::default(), "").await.expect("the pull");
            let archive = export(&other, &other.reference()).await;
            setup.registry = other.registry;
            archive
        }
        Work::Push => {
            setup.work(Work::Pull, &[]).await.expect("the pull");
            Vec::new()
        }
        Work::Pull => Vec::new(),
    };
    let ended = setup.work(work, &archive).await;
    let point_is_behind = matches!(point, Point::ImageLeaseEnd);
    assert!(ended.is_err() || point_is_behind, "the work never passes it\n{}", setup.daemon.log());
    assert_eq!(setup.daemon.await_death(), Some(9), "{}", setup.daemon.log());
    let said = format!("failpoint {}: Kill", point.name());
    assert!(setup.daemon.log().contains(&said), "killed there: {}", setup.daemon.log());

    setup.daemon.start_again().await;
    setup.daemon.assert_consistent(NAMESPACE).await;
    setup.work(work, &archive).await.expect("the work, repeated over what is left");
    setup.daemon.assert_consistent(NAMESPACE).await;
    setup.daemon.remove_leases(NAMESPACE).await;
    // what the image needs is there without any lease
    setup.daemon.assert_consistent(NAMESPACE).await;
    let images = setup.daemon.images(NAMESPACE).await;
    assert_eq!(images, [(setup.reference(), setup.layout.manifest.clone())]);
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;

    setup.daemon.remove_image(NAMESPACE, &setup.reference()).await;
    setup.daemon.remove_leases(NAMESPACE).await;
    setup.daemon.assert_empty(NAMESPACE).await;
    setup
        .work(if matches!(work, Work::Push) { Work::Pull } else { work }, &archive)
        .await
        .expect("from nothing");
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

/// Where each point is passed; a pull that a push needs first passes some of them as well.
const POINTS: &[(Point, u32, Work)] = &[
    (Point::ImageLease, 1, Work::Pull),
    (Point::ImageDocuments, 1, Work::Pull),
    (Point::ImageLayerUnpacked, 1, Work::Pull),
    (Point::ImageLayerUnpacked, 3, Work::Pull),
    (Point::ImageLayerStored, 1, Work::Pull),
    (Point::ImageLayerStored, 4, Work::Pull),
    (Point::ImageLayerCommitted, 1, Work::Pull),
    (Point::ImageLayerCommitted, 3, Work::Pull),
    (Point::ImageUnpacked, 1, Work::Pull),
    (Point::ImageComplete, 1, Work::Pull),
    (Point::ImageLeaseEnd, 1, Work::Pull),
    (Point::ImageImported, 1, Work::Import),
    (Point::ImageLayerCommitted, 2, Work::Import),
    (Point::ImageUnpacked, 1, Work::Import),
    (Point::ImageLeaseEnd, 1, Work::Import),
    (Point::ImagePushed, 2, Work::Push),
    (Point::ImageLeaseEnd, 2, Work::Push),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_pulls_survive_kill() {
    for (point, passage, work) in POINTS.iter().filter(|(_, _, work)| matches!(work, Work::Pull)) {
        killed_at(*point, *passage, *work).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_imports_and_pushes_survive_kill() {
    for (point, passage, work) in POINTS.iter().filter(|(_, _, work)| !matches!(work, Work::Pull)) {
        killed_at(*point, *passage, *work).await;
    }
}

#[test]
fn every_point_of_images_is_tested() {
    for point in Point::ALL.iter().filter(|point| point.name().starts_with("image.")) {
        assert!(POINTS.iter().any(|(tested, _, _)| tested == point), "{}", point.name());
    }
}
