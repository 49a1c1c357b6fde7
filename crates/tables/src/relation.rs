//! What the stream last said of each relation.
//!
//! Owns: the announced columns by OID, and where the rows of a relation go once that was worked out.
//! Does not: work it out (`fold`), or know leaves and roots (`lineage`).
//! Holds: an announcement equal to the last one changes nothing and allocates nothing (T26, T27); it is compared in
//! full, not by a hash, so that no collision can ever misread a row; relations with equal columns share them.
//! Fails: never.

mod targets;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pgoutput::{Oid, Relation, RelationColumn, ReplicaIdentity};
use rustc_hash::{FxHashMap, FxHasher};

pub(crate) use self::targets::Target;
use self::targets::Targets;

/// The relations of one session.
#[derive(Default)]
pub(crate) struct Relations {
    announced: FxHashMap<Oid, Announced>,
    /// What is not in it is unplanned. Every row looks here, and mostly nowhere else.
    targets: Targets,
    /// By hash, so that equal ones are found.
    shapes: FxHashMap<u64, Vec<Arc<Shape>>>,
    shapes_held: usize,
    /// Never reset: the id of a shape that is gone must not come back.
    shapes_made: u64,
}

/// What rows of a relation look like. Its name is no part of it: a rename moves no row (T28).
pub(crate) struct Shape {
    /// Unique among all shapes that ever were.
    pub(crate) id: u64,
    pub(crate) identity: ReplicaIdentity,
    pub(crate) columns: Box<[ShapeColumn]>,
}

pub(crate) struct ShapeColumn {
    pub(crate) name: Box<str>,
    pub(crate) type_oid: Oid,
    pub(crate) type_modifier: i32,
    pub(crate) is_identity: bool,
}

struct Announced {
    shape: Arc<Shape>,
    /// Schema and name, kept only for a relation that the lineage does not know.
    name: Option<Box<(String, String)>>,
}

impl Relations {
    /// Stores an announcement. Answers the target that no longer holds, if the relation's shape is new.
    pub(crate) fn announce(
        &mut self,
        message: &Relation<'_>,
        keep_name: impl FnOnce() -> bool,
    ) -> Option<Target> {
        let known = self.announced.get(&message.oid);
        if known.is_some_and(|known| known.shape.is(message)) {
            return None;
        }
        let shape = self.intern(message);
        let name = keep_name().then(|| Box::new((message.namespace.to_owned(), message.name.to_owned())));
        self.announced.insert(message.oid, Announced { shape, name });
        let before = self.targets.get(message.oid);
        self.targets.set(message.oid, Target::Unplanned);
        Some(before)
    }

    fn intern(&mut self, message: &Relation<'_>) -> Arc<Shape> {
        let hash = Shape::hash(message);
        let known = self.shapes.get(&hash).and_then(|equal| equal.iter().find(|shape| shape.is(message)));
        if let Some(shape) = known {
            return Arc::clone(shape);
        }
        if self.shapes_held >= SHAPES_MIN && self.shapes_held >= 2 * self.announced.len() {
            self.forget_unused_shapes();
        }
        self.shapes_made += 1;
        let shape = Arc::new(Shape::new(self.shapes_made, message));
        self.shapes_held += 1;
        self.shapes.entry(hash).or_default().push(Arc::clone(&shape));
        shape
    }

    fn forget_unused_shapes(&mut self) {
        self.shapes.retain(|_, equal| {
            equal.retain(|shape| Arc::strong_count(shape) > 1);
            !equal.is_empty()
        });
        self.shapes_held = self.shapes.values().map(Vec::len).sum();
    }

    /// Forgets every relation: a new session announces them again.
    pub(crate) fn clear(&mut self) {
        self.announced.clear();
        self.targets.clear();
        self.shapes.clear();
        self.shapes_held = 0;
    }

    /// Says where the rows of a relation go.
    pub(crate) fn set_target(&mut self, oid: Oid, target: Target) {
        if self.announced.contains_key(&oid) {
            self.targets.set(oid, target);
        }
    }

    /// Takes every target back.
    pub(crate) fn unplan_all(&mut self) {
        self.targets.clear();
    }

    /// Where the rows of a relation go; `None` for one that was never announced.
    pub(crate) fn target(&self, oid: Oid) -> Option<Target> {
        match self.targets.get(oid) {
            Target::Unplanned => self.announced.contains_key(&oid).then_some(Target::Unplanned),
            target => Some(target),
        }
    }

    /// Its columns.
    pub(crate) fn shape(&self, oid: Oid) -> Option<&Arc<Shape>> {
        self.announced.get(&oid).map(|announced| &announced.shape)
    }

    /// Every relation that was announced, in no order.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (Oid, &Shape)> {
        self.announced.iter().map(|(oid, announced)| (*oid, &*announced.shape))
    }

    /// Its schema and name, if they were kept.
    pub(crate) fn name(&self, oid: Oid) -> Option<(&str, &str)> {
        let (schema, name) = self.announced.get(&oid)?.name.as_deref()?;
        Some((schema, name))
    }
}

impl Shape {
    fn new(id: u64, message: &Relation<'_>) -> Shape {
        let columns = message.columns.iter().map(|column| ShapeColumn {
            name: column.name.into(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            is_identity: column.is_identity,
        });
        Shape { id, identity: message.replica_identity, columns: columns.collect() }
    }

    fn hash(message: &Relation<'_>) -> u64 {
        let mut hasher = FxHasher::default();
        message.replica_identity.hash(&mut hasher);
        for column in &message.columns {
            column.name.hash(&mut hasher);
            (column.type_oid, column.type_modifier, column.is_identity).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether the message announces this shape.
    fn is(&self, message: &Relation<'_>) -> bool {
        self.identity == message.replica_identity
            && self.columns.len() == message.columns.len()
            && self.columns.iter().zip(&message.columns).all(|(own, sent)| own.is(sent))
    }
}

impl ShapeColumn {
    fn is(&self, sent: &RelationColumn<'_>) -> bool {
        self.type_oid == sent.type_oid
            && self.type_modifier == sent.type_modifier
            && self.is_identity == sent.is_identity
            && *self.name == *sent.name
    }
}

/// Below this many shapes nobody looks for unused ones.
const SHAPES_MIN: usize = 64;

#[cfg(test)]
mod tests;
