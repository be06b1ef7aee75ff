//! Layers that are only checked: Lambda unpacks them itself. What was checked
//! is written down, lest it be checked again, and so is what was packed anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::images::digest::{DiffId, Digest};
use crate::images::feed;
use crate::images::layer::strict::Strict;
use crate::images::layer::{self, LayerError, LayerLimits};
use crate::ports::blobs::ByteStream;
use crate::ports::table::{Condition, Item, Key, TableError, Write};
use crate::ports::{Environment, Layers, Table};

/// The partition of the records.
const PARTITION: &str = "layers";

/// The partition of what was packed anew, by the digest of the blob that it was made of.
/// Changed whenever the same layer is to be packed differently.
const PACKED: &str = "packed-1";

/// So long it is known: others want it soon, and an invocation that goes on where one stopped.
const PACKED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What was made of a layer's blob, since Lambda does not take it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackedLayer {
    /// The digest of its tar.
    pub(super) layer: DiffId,
    /// Its blob, gzip.
    pub(super) blob: Digest,
}

/// What a record says of Lambda's rules, behind the size.
const KEEPS: &str = "keeps-rules";
const BREAKS: &str = "breaks-rules";

/// Records that are read at once.
const PAGE: usize = 500;

/// [`Layers`] that leave nothing but a record in the table.
pub struct CheckedLayers {
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
    limits: LayerLimits,
}

impl CheckedLayers {
    /// With records in this table.
    #[must_use]
    pub fn new(
        table: Arc<dyn Table>,
        environment: Arc<dyn Environment>,
        limits: LayerLimits,
    ) -> Self {
        Self {
            table,
            environment,
            limits,
        }
    }

    /// Whether a layer that was checked breaks a rule of Lambda's unpacker.
    ///
    /// # Errors
    /// [`LayerError::NotFound`] for one that was not, and [`LayerError::Storage`].
    pub async fn breaks_rules(&self, layer: &DiffId) -> Result<bool, LayerError> {
        let found = self
            .table
            .get(&key(layer), self.environment.now())
            .await
            .map_err(failed)?;
        let found = found.ok_or(LayerError::NotFound(*layer))?;
        Ok(!found.body.ends_with(KEEPS.as_bytes()))
    }

    /// What was made of this blob, if that is known. Its own blob may be gone.
    ///
    /// # Errors
    /// [`LayerError::Storage`].
    pub(super) async fn packed(&self, blob: &Digest) -> Result<Option<PackedLayer>, LayerError> {
        let key = Key::new(PACKED, blob.to_string());
        let found = self.table.get(&key, self.environment.now()).await;
        let read = |item: Item| {
            let text = std::str::from_utf8(&item.body).ok()?;
            let (layer, blob) = text.split_once(' ')?;
            Some(PackedLayer {
                layer: DiffId(layer.parse().ok()?),
                blob: blob.parse().ok()?,
            })
        };
        Ok(found.map_err(failed)?.and_then(read))
    }

    /// Writes down what was made of a blob.
    ///
    /// # Errors
    /// [`LayerError::Storage`].
    pub(super) async fn note_packed(
        &self,
        blob: &Digest,
        packed: &PackedLayer,
    ) -> Result<(), LayerError> {
        let PackedLayer { layer, blob: made } = packed;
        self.write(Write::Put {
            key: Key::new(PACKED, blob.to_string()),
            body: Bytes::from(format!("{layer} {made}")),
            expires: Some(self.environment.now().plus(PACKED_LIFETIME)),
            condition: Condition::Always,
        })
        .await
    }

    async fn write(&self, write: Write) -> Result<(), LayerError> {
        self.table
            .transact(vec![write], self.environment.now())
            .await
            .map_err(failed)
    }
}

#[async_trait]
impl Layers for CheckedLayers {
    async fn stat(&self, layer: &DiffId) -> Result<Option<u64>, LayerError> {
        let found = self
            .table
            .get(&key(layer), self.environment.now())
            .await
            .map_err(failed)?;
        found.map(|item| size(&item.body)).transpose()
    }

    async fn add(&self, layer: &DiffId, body: ByteStream) -> Result<u64, LayerError> {
        let (expected, limits) = (*layer, self.limits);
        let checked = feed::run(body, move |reader| {
            let mut strict = Strict::default();
            let read = layer::read(reader, Some(expected), limits, &mut strict)?;
            Ok((read, strict.breaks()))
        });
        let (read, breaks) = checked
            .await
            .unwrap_or_else(|| Err(LayerError::Storage("checking it failed".to_owned())))?;
        let rules = if breaks { BREAKS } else { KEEPS };
        self.write(Write::Put {
            key: key(layer),
            body: Bytes::from(format!("{} {rules}", read.size)),
            expires: None,
            condition: Condition::Always,
        })
        .await?;
        Ok(read.size)
    }

    async fn remove(&self, layer: &DiffId) -> Result<(), LayerError> {
        self.write(Write::Delete {
            key: key(layer),
            condition: Condition::Always,
        })
        .await
    }

    async fn list(&self) -> Result<Vec<DiffId>, LayerError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .table
                .query(
                    PARTITION,
                    "",
                    after.as_deref(),
                    PAGE,
                    self.environment.now(),
                )
                .await
                .map_err(failed)?;
            let last = page.len() < PAGE;
            after = page.last().map(|item| item.key.sort.clone());
            found.extend(
                page.iter()
                    .filter_map(|item| item.key.sort.parse().ok().map(DiffId)),
            );
            if last {
                return Ok(found);
            }
        }
    }
}

fn key(layer: &DiffId) -> Key {
    Key::new(PARTITION, layer.to_string())
}

fn size(body: &[u8]) -> Result<u64, LayerError> {
    std::str::from_utf8(body)
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .ok_or_else(|| LayerError::Storage("a layer's record is damaged".to_owned()))
}

fn failed(error: TableError) -> LayerError {
    LayerError::Storage(error.to_string())
}
