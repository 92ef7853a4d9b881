//! The list of all points. docs/failpoints.md says the same in words; a test compares them.

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place in a program.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $($(#[$doc])* $variant,)*
        }

        impl Point {
            /// Every point, in the order of the list.
            pub const ALL: &'static [Point] = &[$(Point::$variant,)*];

            /// The name that the environment uses.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Point::$variant => $name,)*
                }
            }

            /// The point of a name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|point| point.name() == name)
            }
        }
    };
}

points! {
    /// The ingest is recorded, its file does not exist yet.
    ContentOpen = "content.open",
    /// Bytes were appended to an ingest's file.
    ContentWrite = "content.write",
    /// The bytes are verified and on disk, still as an ingest.
    ContentCommitFlushed = "content.commit.flushed",
    /// The file has the blob's name, the record does not exist yet.
    ContentCommitPlaced = "content.commit.placed",
    /// The record stands, the ingest's remains are still there.
    ContentCommitRecorded = "content.commit.recorded",
    /// A snapshot's directory is in place, its record does not exist yet.
    SnapshotPreparePlaced = "snapshot.prepare.placed",
    /// A snapshot's record stands, nobody was told.
    SnapshotPrepareRecorded = "snapshot.prepare.recorded",
    /// A layer was measured and flushed, its snapshot is still active.
    SnapshotCommitFlushed = "snapshot.commit.flushed",
    /// A snapshot was committed, nobody was told.
    SnapshotCommitRecorded = "snapshot.commit.recorded",
    /// A snapshot's record is gone, its directory is still there.
    SnapshotRemoveRecorded = "snapshot.remove.recorded",
    /// A layer is being extracted into its snapshot.
    LayerExtract = "layer.extract",
    /// A transfer has its lease, and nothing came yet.
    ImageLease = "image.lease",
    /// An image's documents are in the content store, none of its layers is.
    ImageDocuments = "image.documents",
    /// A layer was unpacked as it came, its blob is still an ingest.
    ImageLayerUnpacked = "image.layer.unpacked",
    /// A layer's blob is in the content store, its snapshot is not committed.
    ImageLayerStored = "image.layer.stored",
    /// A layer was committed as a snapshot, its blob does not say so.
    ImageLayerCommitted = "image.layer.committed",
    /// All layers of an image are committed, its config does not keep them.
    ImageUnpacked = "image.unpacked",
    /// The image is here and held by the transfer's lease alone: it has no name.
    ImageComplete = "image.complete",
    /// A transfer's work is done, its lease is still there.
    ImageLeaseEnd = "image.lease.end",
    /// The files of an archive are in the content store, nothing says how they belong together.
    ImageImported = "image.imported",
    /// A registry has a blob, the blob does not say so.
    ImagePushed = "image.pushed",
    /// A transaction has made its changes and is about to become durable.
    MetadataCommit = "metadata.commit",
    /// A transaction is durable, its caller was not told.
    MetadataCommitted = "metadata.committed",
    /// The bundle is on disk, the shim was not started.
    TaskCreateBundle = "task.create.bundle",
    /// The shim runs, its address is not on disk.
    TaskCreateShim = "task.create.shim",
    /// The shim was told of its task, the client was not.
    TaskCreateTold = "task.create.told",
    /// The shim has started the process, the client was not told.
    TaskStart = "task.start",
    /// The shim has deleted its task and runs on.
    TaskDeleteTold = "task.delete.told",
    /// The shim is gone, the bundle is still there.
    TaskDeleteShim = "task.delete.shim",
    /// The bundle is gone, the client was not told.
    TaskDeleteBundle = "task.delete.bundle",
    /// An activation is recorded, nothing of it is mounted.
    MountBegin = "mount.begin",
    /// One of an activation's mounts is there.
    MountMade = "mount.made",
    /// All of them are, and the record does not say so.
    MountAll = "mount.all",
    /// The record is whole, the client was not told.
    MountFinished = "mount.finished",
    /// The record is gone, its mounts are still there.
    MountForgotten = "mount.forgotten",
    /// One of the mounts of a record that is gone was unmounted.
    MountUnmade = "mount.unmade",
    /// The collector knows what to remove, and has removed nothing.
    CollectorMark = "collector.mark",
    /// The collector has removed records, their files are still there.
    CollectorSweep = "collector.sweep",
    /// The collector has removed one of several files.
    CollectorReclaim = "collector.reclaim",
    /// An event is on disk, no subscriber has it.
    EventsPublish = "events.publish",
    /// An event was handed to subscribers and is still on disk.
    EventsDeliver = "events.deliver",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_differ() {
        for point in Point::ALL {
            assert_eq!(Point::named(point.name()), Some(*point));
        }
        assert_eq!(Point::named("elsewhere"), None);
    }
}
