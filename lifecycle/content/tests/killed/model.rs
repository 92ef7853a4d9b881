//! What there should be, by the rules in containerd's words and none of the stores' own code.

use std::collections::{BTreeMap, BTreeSet};

/// An operation and its arguments, which any bytes are. Names are few, so that operations meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op(pub [u8; 6]);

/// Things of each kind.
pub const COUNT: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    StartIngest,
    Put,
    Abort,
    Label,
    DeleteBlob,
    Prepare,
    Commit,
    RemoveSnapshot,
    CreateLease,
    DeleteLease,
    CreateImage,
    DeleteImage,
    CreateContainer,
    DeleteContainer,
    Collect,
}

impl Op {
    pub fn encode(self) -> String {
        self.0.map(|byte| byte.to_string()).join(" ")
    }

    pub fn decode(line: &str) -> Op {
        let bytes: Vec<u8> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        Op(bytes.try_into().unwrap())
    }

    pub fn kind(self) -> Kind {
        use Kind::*;
        const ALL: [Kind; 24] = [
            StartIngest,
            Put,
            Put,
            Put,
            Put,
            Abort,
            Label,
            Label,
            DeleteBlob,
            Prepare,
            Prepare,
            Prepare,
            Commit,
            Commit,
            RemoveSnapshot,
            CreateLease,
            CreateLease,
            DeleteLease,
            CreateImage,
            CreateImage,
            DeleteImage,
            CreateContainer,
            DeleteContainer,
            Collect,
        ];
        ALL[usize::from(self.0[0]) % ALL.len()]
    }

    pub fn namespace(self) -> u8 {
        self.0[1] % 2
    }

    /// The thing that it is about.
    pub fn subject(self) -> u8 {
        self.0[2] % COUNT
    }

    /// Another thing: a parent, a target, a new name.
    pub fn other(self) -> Option<u8> {
        (self.0[3] % (COUNT + 1)).checked_sub(1)
    }

    pub fn lease(self) -> Option<u8> {
        (self.0[4] % 4).checked_sub(1)
    }

    pub fn label(self) -> Label {
        let thing = (self.0[5] / 7) % COUNT;
        match self.0[5] % 7 {
            0 | 1 => Label::None,
            2 => Label::Root,
            3 => Label::HoldsBlob(thing),
            4 => Label::HoldsSnapshot(thing),
            5 => Label::HeldByContainer(thing),
            _ => Label::HoldsImage(thing),
        }
    }

    pub fn flag(self) -> bool {
        self.0[5] >= 128
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    None,
    Root,
    HoldsBlob(u8),
    HoldsSnapshot(u8),
    HeldByContainer(u8),
    HoldsImage(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Blob(u8),
    Ingest(u8),
    Snapshot(u8),
    Image(u8),
    Container(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub parent: Option<u8>,
    pub is_committed: bool,
    pub label: Label,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub is_flat: bool,
    pub is_over: bool,
    pub holds: BTreeSet<Thing>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub blobs: BTreeMap<u8, Label>,
    /// Whether it lives by itself for a day; otherwise by its lease.
    pub ingests: BTreeMap<u8, bool>,
    pub snapshots: BTreeMap<u8, Snapshot>,
    pub leases: BTreeMap<u8, Lease>,
    /// Target, and whether it has expired.
    pub images: BTreeMap<u8, (u8, bool, Label)>,
    /// Its snapshot.
    pub containers: BTreeMap<u8, Option<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model(pub [State; 2]);

impl Model {
    pub fn state(&self) -> [State; 2] {
        self.0.clone()
    }

    /// The model afterwards; as an error where the operation is refused, which may change something all the same.
    pub fn perform(&self, op: Op) -> Result<Model, Model> {
        let mut after = self.clone();
        let (stages, done) = after.0[usize::from(op.namespace())].perform(op);
        drop(stages);
        if op.kind() == Kind::Collect {
            after.collect();
        }
        if done { Ok(after) } else { Err(after) }
    }

    /// What there may be if the operation was broken off, besides what was there before.
    pub fn stages(&self, op: Op) -> Vec<Model> {
        let mut after = self.clone();
        let (stages, _) = after.0[usize::from(op.namespace())].perform(op);
        let with = |state: State| {
            let mut model = self.clone();
            model.0[usize::from(op.namespace())] = state;
            model
        };
        stages.into_iter().map(with).chain([after]).collect()
    }

    pub fn collect(&mut self) {
        for state in &mut self.0 {
            state.collect();
        }
    }
}

impl State {
    /// Lets the lease hold a thing; false if there is no such lease.
    fn attach(&mut self, lease: Option<u8>, thing: Thing) -> bool {
        let Some(lease) = lease else { return true };
        match self.leases.get_mut(&lease) {
            Some(lease) => {
                lease.holds.insert(thing);
                true
            }
            None => false,
        }
    }

    fn detach(&mut self, lease: Option<u8>, thing: Thing) {
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.holds.remove(&thing);
        }
    }

    /// The states in between that are on disk, and whether it was done.
    fn perform(&mut self, op: Op) -> (Vec<State>, bool) {
        let (subject, lease) = (op.subject(), op.lease());
        let has_lease = lease.is_none_or(|lease| self.leases.contains_key(&lease));
        let mut stages = Vec::new();
        let done = match op.kind() {
            Kind::StartIngest => has_lease && self.begin(subject, lease),
            Kind::Put => {
                // one that says what it brings is told early
                if op.flag() && self.blobs.contains_key(&subject) {
                    self.attach(lease, Thing::Blob(subject));
                    false
                } else if !has_lease {
                    false
                } else {
                    self.begin(subject, lease);
                    stages.push(self.clone());
                    self.ingests.remove(&subject);
                    self.detach(lease, Thing::Ingest(subject));
                    self.attach(lease, Thing::Blob(subject));
                    let is_new = !self.blobs.contains_key(&subject);
                    if is_new {
                        self.blobs.insert(subject, op.label());
                    }
                    is_new
                }
            }
            Kind::Abort => {
                let was_there = self.ingests.remove(&subject).is_some();
                if was_there {
                    self.detach(lease, Thing::Ingest(subject));
                }
                was_there
            }
            Kind::Label => match self.blobs.get_mut(&subject) {
                Some(label) => {
                    *label = op.label();
                    true
                }
                None => false,
            },
            Kind::DeleteBlob => {
                let was_there = self.blobs.remove(&subject).is_some();
                if was_there {
                    self.detach(lease, Thing::Blob(subject));
                }
                was_there
            }
            Kind::Prepare => {
                if self.snapshots.contains_key(&subject) {
                    self.attach(lease, Thing::Snapshot(subject));
                    false
                } else if !has_lease
                    || op
                        .other()
                        .is_some_and(|parent| self.snapshots.get(&parent).is_none_or(|p| !p.is_committed))
                {
                    false
                } else {
                    self.attach(lease, Thing::Snapshot(subject));
                    let label = op.label();
                    let snapshot = Snapshot { parent: op.other(), is_committed: false, label };
                    self.snapshots.insert(subject, snapshot);
                    true
                }
            }
            Kind::Commit => {
                let name = op.other().unwrap_or(subject);
                if !has_lease {
                    false
                } else if self.snapshots.contains_key(&name) {
                    self.attach(lease, Thing::Snapshot(name));
                    false
                } else if self.snapshots.get(&subject).is_none_or(|snapshot| snapshot.is_committed) {
                    false
                } else {
                    self.attach(lease, Thing::Snapshot(name));
                    self.detach(lease, Thing::Snapshot(subject));
                    let mut snapshot = self.snapshots.remove(&subject).unwrap();
                    (snapshot.is_committed, snapshot.label) = (true, op.label());
                    self.snapshots.insert(name, snapshot);
                    true
                }
            }
            Kind::RemoveSnapshot => {
                let has_child = self.snapshots.values().any(|snapshot| snapshot.parent == Some(subject));
                let done = !has_child && self.snapshots.remove(&subject).is_some();
                if done {
                    self.detach(lease, Thing::Snapshot(subject));
                }
                done
            }
            Kind::CreateLease => {
                let id = subject % 3;
                let is_new = !self.leases.contains_key(&id);
                if is_new {
                    let (is_flat, is_over) = (op.flag(), op.0[4].is_multiple_of(8));
                    self.leases.insert(id, Lease { is_flat, is_over, holds: BTreeSet::new() });
                }
                is_new
            }
            Kind::DeleteLease => self.leases.remove(&(subject % 3)).is_some(),
            Kind::CreateImage => {
                let is_new = !self.images.contains_key(&subject);
                if is_new {
                    self.images
                        .insert(subject, (op.other().unwrap_or(0), op.0[4].is_multiple_of(4), op.label()));
                }
                is_new
            }
            Kind::DeleteImage => self.images.remove(&subject).is_some(),
            Kind::CreateContainer => {
                let is_new = !self.containers.contains_key(&subject);
                if is_new {
                    self.containers.insert(subject, op.other());
                }
                is_new
            }
            Kind::DeleteContainer => self.containers.remove(&subject).is_some(),
            Kind::Collect => true,
        };
        (stages, done)
    }

    fn begin(&mut self, reference: u8, lease: Option<u8>) -> bool {
        self.attach(lease, Thing::Ingest(reference));
        self.ingests.insert(reference, lease.is_none());
        true
    }

    fn refers(&self, thing: Thing, is_flat: bool) -> Vec<Thing> {
        let mut to = Vec::new();
        let label = match thing {
            Thing::Blob(n) => self.blobs.get(&n).copied(),
            Thing::Snapshot(n) => self.snapshots.get(&n).map(|snapshot| {
                to.extend(snapshot.parent.map(Thing::Snapshot));
                snapshot.label
            }),
            Thing::Image(n) => self.images.get(&n).map(|(target, _, label)| {
                to.push(Thing::Blob(*target));
                *label
            }),
            Thing::Container(n) => {
                to.extend(self.containers.get(&n).copied().flatten().map(Thing::Snapshot));
                None
            }
            Thing::Ingest(_) => None,
        };
        if is_flat {
            return to;
        }
        match label {
            Some(Label::HoldsBlob(n)) => to.push(Thing::Blob(n)),
            Some(Label::HoldsSnapshot(n)) => to.push(Thing::Snapshot(n)),
            Some(Label::HoldsImage(n)) => to.push(Thing::Image(n)),
            _ => {}
        }
        if let Thing::Container(n) = thing {
            let held = |label: Label| label == Label::HeldByContainer(n);
            to.extend(self.blobs.iter().filter(|(_, l)| held(**l)).map(|(n, _)| Thing::Blob(*n)));
            to.extend(self.snapshots.iter().filter(|(_, s)| held(s.label)).map(|(n, _)| Thing::Snapshot(*n)));
            to.extend(self.images.iter().filter(|(_, i)| held(i.2)).map(|(n, _)| Thing::Image(*n)));
        }
        to
    }

    fn reach(&self, from: Vec<Thing>, is_flat: bool) -> BTreeSet<Thing> {
        let (mut live, mut rest) = (BTreeSet::new(), from);
        while let Some(thing) = rest.pop() {
            if live.insert(thing) {
                rest.extend(self.refers(thing, is_flat));
            }
        }
        live
    }

    fn collect(&mut self) {
        self.leases.retain(|_, lease| !lease.is_over);
        let mut roots: Vec<Thing> = self.containers.keys().map(|n| Thing::Container(*n)).collect();
        let mut flat = Vec::new();
        for lease in self.leases.values() {
            if lease.is_flat { flat.extend(&lease.holds) } else { roots.extend(&lease.holds) }
        }
        roots.extend(self.images.iter().filter(|(_, image)| !image.1).map(|(n, _)| Thing::Image(*n)));
        roots
            .extend(self.ingests.iter().filter(|(_, by_itself)| **by_itself).map(|(n, _)| Thing::Ingest(*n)));
        roots.extend(self.blobs.iter().filter(|(_, l)| **l == Label::Root).map(|(n, _)| Thing::Blob(*n)));
        let rooted = self.snapshots.iter().filter(|(_, snapshot)| snapshot.label == Label::Root);
        roots.extend(rooted.map(|(n, _)| Thing::Snapshot(*n)));
        let mut live = self.reach(roots, false);
        live.extend(self.reach(flat, true));
        self.blobs.retain(|n, _| live.contains(&Thing::Blob(*n)));
        self.ingests.retain(|n, _| live.contains(&Thing::Ingest(*n)));
        self.snapshots.retain(|n, _| live.contains(&Thing::Snapshot(*n)));
        self.images.retain(|n, _| live.contains(&Thing::Image(*n)));
    }
}
