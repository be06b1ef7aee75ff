//! Which images a namespace has, and by which names.
//!
//! | partition | sort key | is |
//! |---|---|---|
//! | `IMAGES#<namespace>` | `image/<id>` | [`ImageRecord`] |
//! | `IMAGES#<namespace>` | `ref/<reference>` | the id of the image that has this name |
//! | `IMAGE-CONTENT` | `<id>#<namespace>` | [`Content`]: what must be kept for it |
//! | `IMAGE-CONTENT` | `pull/<manifest>#<namespace>` | [`Content`] of a pull under way |
//! | `LAYER-GZIP` | `<layer>` | the blob that the layer is when it is pushed |
//!
//! A name and the list of names in its image change in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sockerless_shared::ids::Namespace;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use super::digest::{DiffId, Digest};
use super::manifest::Descriptor;
use super::reference::{ImageName, Reference, ReferenceError};
use crate::ports::table::{Condition, Key, Table, TableError, Write};

/// Most names of one image.
pub const MAX_REFERENCES: usize = 1000;

const CONTENT: &str = "IMAGE-CONTENT";
const PAGE: usize = 100;
/// How often a transaction is tried again when somebody else was faster.
const ATTEMPTS: usize = 16;

/// Why the catalog did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// Not a name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No image of this name. The text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Too many names.
    #[error("image {0} has {MAX_REFERENCES} names, the most that is allowed; remove one first")]
    TooManyReferences(Digest),
    /// A name that no store takes as a key.
    #[error("image name of {0} characters is too long; at most 900 are allowed")]
    NameTooLong(usize),
    /// Others changed the same image all the time.
    #[error("image {0} is being changed by others; try again")]
    Busy(String),
    /// A record that cannot be read.
    #[error("image record {0} is damaged: {1}")]
    Damaged(String, String),
    /// The store failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// What is known of an image without reading its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its config.
    pub id: Digest,
    /// When it was made, as its config says (RFC 3339).
    pub created: Option<String>,
    /// Bytes in the files of all its layers.
    pub size: u64,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
    /// Its manifest in the registry.
    pub manifest: Digest,
    /// Its config and layers in the registry.
    pub blobs: Vec<Digest>,
    /// Its labels, if its config has any to list, be the list empty.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its names, in their full form.
    pub references: BTreeSet<String>,
    /// When it last got a name by `tag` or `import`.
    pub last_tagged: Option<Timestamp>,
}

/// What must be kept for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its manifest in the registry.
    pub manifest: Digest,
    /// Its config and layers in the registry.
    pub blobs: Vec<Digest>,
    /// Its unpacked layers.
    pub layers: Vec<DiffId>,
}

/// Everything that some image needs.
#[derive(Debug, Default)]
pub struct Reachable {
    /// Manifests and blobs.
    pub content: HashSet<Digest>,
    /// Layers.
    pub layers: HashSet<DiffId>,
}

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// It was free.
    New,
    /// It was this image's already.
    Same,
    /// It was another image's.
    Moved(Digest),
}

#[derive(Serialize, Deserialize)]
struct ReferenceRecord {
    image: Digest,
}

struct Versioned<T> {
    value: T,
    version: u64,
}

/// The images of all namespaces.
#[derive(Clone)]
pub struct Catalog {
    table: Arc<dyn Table>,
}

impl Catalog {
    /// In this table.
    #[must_use]
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The image that a client names: by reference, by id, or by the beginning
    /// of an id that no other has.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchImage`] and [`CatalogError::Reference`].
    pub async fn resolve(
        &self,
        namespace: &Namespace,
        name: &str,
        now: Timestamp,
    ) -> Result<ImageRecord, CatalogError> {
        let parsed = ImageName::parse(name)?;
        let missing = || CatalogError::NoSuchImage(parsed.familiar());
        let found = match &parsed {
            ImageName::Id(id) => self.image(namespace, id, now).await?,
            ImageName::Named(reference) => {
                let by_name = self.by_reference(namespace, reference, now).await?;
                match by_name {
                    Some(image) => Some(image),
                    None => self.by_prefix(namespace, name, now).await?,
                }
            }
        };
        found.map(|image| image.value).ok_or_else(missing)
    }

    /// The image that has this name.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn find(
        &self,
        namespace: &Namespace,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<Option<ImageRecord>, CatalogError> {
        let found = self.by_reference(namespace, reference, now).await?;
        Ok(found.map(|image| image.value))
    }

    /// The image of this id.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn get(
        &self,
        namespace: &Namespace,
        id: &Digest,
        now: Timestamp,
    ) -> Result<Option<ImageRecord>, CatalogError> {
        let found = self.image(namespace, id, now).await?;
        Ok(found.map(|image| image.value))
    }

    /// All images, by id.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn list(
        &self,
        namespace: &Namespace,
        now: Timestamp,
    ) -> Result<Vec<ImageRecord>, CatalogError> {
        let mut images = Vec::new();
        self.pages(&partition(namespace), "image/", now, |image| {
            images.push(image);
        })
        .await?;
        Ok(images)
    }

    /// Adds an image; one that is there already stays as it is, with its names.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn add(
        &self,
        namespace: &Namespace,
        image: &ImageRecord,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let content = Content {
            manifest: image.manifest,
            blobs: image.blobs.clone(),
            layers: image.layers.clone(),
        };
        let writes = vec![
            put(image_key(namespace, &image.id), image, Condition::Absent)?,
            put(
                content_key(namespace, &image.id),
                &content,
                Condition::Always,
            )?,
        ];
        match self.table.transact(writes, now).await {
            Err(TableError::Conflict { index: 0 }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Gives an image a name, taking it from the image that had it. `told` says
    /// whether this counts as the image's last time to be tagged, which in Docker
    /// it does not for `load` and `pull`.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchImage`], [`CatalogError::TooManyReferences`], [`CatalogError::Busy`].
    pub async fn tag(
        &self,
        namespace: &Namespace,
        id: &Digest,
        reference: &Reference,
        told: bool,
        now: Timestamp,
    ) -> Result<Tagged, CatalogError> {
        let name = reference.clone().key().to_string();
        if name.len() > 900 {
            return Err(CatalogError::NameTooLong(name.len()));
        }
        let key = reference_key(namespace, &name);
        for _ in 0..ATTEMPTS {
            let before: Option<Versioned<ReferenceRecord>> = self.read(&key, now).await?;
            let mut image = self
                .image(namespace, id, now)
                .await?
                .ok_or_else(|| CatalogError::NoSuchImage(id.to_string()))?;
            let mut writes = Vec::with_capacity(3);
            let tagged = match &before {
                Some(record) if record.value.image == *id => Tagged::Same,
                Some(record) => Tagged::Moved(record.value.image),
                None => Tagged::New,
            };
            if let Tagged::Moved(old) = tagged
                && let Some(mut old) = self.image(namespace, &old, now).await?
            {
                old.value.references.remove(&name);
                writes.push(put_image(namespace, &old)?);
            }
            image.value.references.insert(name.clone());
            if image.value.references.len() > MAX_REFERENCES {
                return Err(CatalogError::TooManyReferences(*id));
            }
            if told {
                image.value.last_tagged = Some(now);
            }
            writes.push(put_image(namespace, &image)?);
            let condition = before.map_or(Condition::Absent, |b| Condition::Version(b.version));
            writes.push(put(
                key.clone(),
                &ReferenceRecord { image: *id },
                condition,
            )?);
            match self.table.transact(writes, now).await {
                Ok(()) => return Ok(tagged),
                Err(TableError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CatalogError::Busy(reference.familiar()))
    }

    /// Takes a name from an image. A name that is not its is no error.
    ///
    /// # Errors
    /// [`CatalogError::Busy`] and [`CatalogError::Table`].
    pub async fn untag(
        &self,
        namespace: &Namespace,
        id: &Digest,
        name: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let key = reference_key(namespace, name);
        for _ in 0..ATTEMPTS {
            let mut writes = Vec::with_capacity(2);
            let reference: Option<Versioned<ReferenceRecord>> = self.read(&key, now).await?;
            if let Some(reference) = reference.filter(|r| r.value.image == *id) {
                writes.push(Write::Delete {
                    key: key.clone(),
                    condition: Condition::Version(reference.version),
                });
            }
            if let Some(mut image) = self.image(namespace, id, now).await?
                && image.value.references.remove(name)
            {
                writes.push(put_image(namespace, &image)?);
            }
            if writes.is_empty() {
                return Ok(());
            }
            match self.table.transact(writes, now).await {
                Ok(()) => return Ok(()),
                Err(TableError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CatalogError::Busy(name.to_owned()))
    }

    /// Removes an image that has no names any more. With `keep_content` what it
    /// consists of stays for containers that were made of it, until
    /// [`Catalog::release`]. `false` when it has got a name meanwhile.
    ///
    /// # Errors
    /// [`CatalogError::Busy`] and [`CatalogError::Table`].
    pub async fn remove(
        &self,
        namespace: &Namespace,
        id: &Digest,
        keep_content: bool,
        now: Timestamp,
    ) -> Result<bool, CatalogError> {
        for _ in 0..ATTEMPTS {
            let Some(image) = self.image(namespace, id, now).await? else {
                return Ok(true);
            };
            if !image.value.references.is_empty() {
                return Ok(false);
            }
            let mut writes = vec![Write::Delete {
                key: image_key(namespace, id),
                condition: Condition::Version(image.version),
            }];
            if !keep_content {
                writes.push(Write::Delete {
                    key: content_key(namespace, id),
                    condition: Condition::Always,
                });
            }
            match self.table.transact(writes, now).await {
                Ok(()) => return Ok(true),
                Err(TableError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CatalogError::Busy(id.to_string()))
    }

    /// The last container of an image is gone: if the image is gone too, nothing
    /// has to be kept for it any more.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn release(
        &self,
        namespace: &Namespace,
        id: &Digest,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let writes = vec![
            Write::Check {
                key: image_key(namespace, id),
                condition: Condition::Absent,
            },
            Write::Delete {
                key: content_key(namespace, id),
                condition: Condition::Always,
            },
        ];
        match self.table.transact(writes, now).await {
            Err(TableError::Conflict { index: 0 }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Keeps what an image under way consists of, until `until`: a pull that breaks off
    /// then goes on with what it has got.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn hold(
        &self,
        namespace: &Namespace,
        content: &Content,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let key = held_key(namespace, &content.manifest);
        let write = match put(key, content, Condition::Always)? {
            Write::Put {
                key,
                body,
                condition,
                ..
            } => Write::Put {
                key,
                body,
                condition,
                expires: Some(until),
            },
            other => other,
        };
        Ok(self.table.transact(vec![write], now).await?)
    }

    /// Gives up what [`Catalog::hold`] keeps.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn release_held(
        &self,
        namespace: &Namespace,
        manifest: &Digest,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let delete = Write::Delete {
            key: held_key(namespace, manifest),
            condition: Condition::Always,
        };
        Ok(self.table.transact(vec![delete], now).await?)
    }

    /// How a layer is compressed for registries, if that was found out before.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn compressed(
        &self,
        layer: &DiffId,
        now: Timestamp,
    ) -> Result<Option<Descriptor>, CatalogError> {
        let found = self.read(&compressed_key(layer), now).await?;
        Ok(found.map(|found| found.value))
    }

    /// Remembers how a layer is compressed for registries: the same bytes every time.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn set_compressed(
        &self,
        layer: &DiffId,
        blob: &Descriptor,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let write = put(compressed_key(layer), blob, Condition::Always)?;
        Ok(self.table.transact(vec![write], now).await?)
    }

    /// What the images of all namespaces need.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn reachable(&self, now: Timestamp) -> Result<Reachable, CatalogError> {
        let mut reachable = Reachable::default();
        self.pages(CONTENT, "", now, |content: Content| {
            reachable.content.insert(content.manifest);
            reachable.content.extend(content.blobs);
            reachable.layers.extend(content.layers);
        })
        .await?;
        Ok(reachable)
    }

    /// What is kept for the images of a namespace, those included that are
    /// removed but have containers still.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn contents(
        &self,
        namespace: &Namespace,
        now: Timestamp,
    ) -> Result<Vec<(Digest, Content)>, CatalogError> {
        let mut contents = Vec::new();
        let suffix = format!("#{namespace}");
        let mut after: Option<String> = None;
        loop {
            let page = self
                .table
                .query(CONTENT, "", after.as_deref(), PAGE, now)
                .await?;
            for item in &page {
                let id = item.key.sort.strip_suffix(&suffix);
                if let Some(id) = id.and_then(|id| id.parse().ok()) {
                    contents.push((id, decode(&item.key, &item.body)?));
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.sort.clone()),
                _ => return Ok(contents),
            }
        }
    }

    async fn image(
        &self,
        namespace: &Namespace,
        id: &Digest,
        now: Timestamp,
    ) -> Result<Option<Versioned<ImageRecord>>, CatalogError> {
        self.read(&image_key(namespace, id), now).await
    }

    async fn by_reference(
        &self,
        namespace: &Namespace,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<Option<Versioned<ImageRecord>>, CatalogError> {
        let name = reference.clone().key().to_string();
        let key = reference_key(namespace, &name);
        if !key.is_valid() {
            return Ok(None);
        }
        match self.read::<ReferenceRecord>(&key, now).await? {
            Some(record) => self.image(namespace, &record.value.image, now).await,
            None => Ok(None),
        }
    }

    async fn by_prefix(
        &self,
        namespace: &Namespace,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<Versioned<ImageRecord>>, CatalogError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(is_hex) {
            return Ok(None);
        }
        let prefix = format!("image/sha256:{digits}");
        let mut found = self
            .table
            .query(&partition(namespace), &prefix, None, 2, now)
            .await?;
        match (found.pop(), found.pop()) {
            (Some(item), None) => Ok(Some(Versioned {
                value: decode(&item.key, &item.body)?,
                version: item.version,
            })),
            _ => Ok(None),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Versioned<T>>, CatalogError> {
        match self.table.get(key, now).await? {
            None => Ok(None),
            Some(item) => Ok(Some(Versioned {
                value: decode(&item.key, &item.body)?,
                version: item.version,
            })),
        }
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        partition: &str,
        prefix: &str,
        now: Timestamp,
        mut each: impl FnMut(T),
    ) -> Result<(), CatalogError> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .table
                .query(partition, prefix, after.as_deref(), PAGE, now)
                .await?;
            for item in &page {
                each(decode(&item.key, &item.body)?);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.sort.clone()),
                _ => return Ok(()),
            }
        }
    }
}

fn partition(namespace: &Namespace) -> String {
    format!("IMAGES#{namespace}")
}

fn image_key(namespace: &Namespace, id: &Digest) -> Key {
    Key::new(partition(namespace), format!("image/{id}"))
}

fn reference_key(namespace: &Namespace, name: &str) -> Key {
    Key::new(partition(namespace), format!("ref/{name}"))
}

/// Under no image's id, so that it is no image's.
fn held_key(namespace: &Namespace, manifest: &Digest) -> Key {
    Key::new(CONTENT, format!("pull/{manifest}#{namespace}"))
}

fn compressed_key(layer: &DiffId) -> Key {
    Key::new("LAYER-GZIP", layer.to_string())
}

fn content_key(namespace: &Namespace, id: &Digest) -> Key {
    Key::new(CONTENT, format!("{id}#{namespace}"))
}

fn put_image(namespace: &Namespace, image: &Versioned<ImageRecord>) -> Result<Write, CatalogError> {
    put(
        image_key(namespace, &image.value.id),
        &image.value,
        Condition::Version(image.version),
    )
}

fn put(key: Key, value: &impl Serialize, condition: Condition) -> Result<Write, CatalogError> {
    let body = serde_json::to_vec(value)
        .map_err(|e| CatalogError::Damaged(key.sort.clone(), e.to_string()))?;
    Ok(Write::Put {
        key,
        body: Bytes::from(body),
        expires: None,
        condition,
    })
}

fn decode<T: DeserializeOwned>(key: &Key, body: &[u8]) -> Result<T, CatalogError> {
    serde_json::from_slice(body).map_err(|e| CatalogError::Damaged(key.sort.clone(), e.to_string()))
}
