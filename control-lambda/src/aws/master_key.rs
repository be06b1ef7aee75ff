//! The secret from which all keys are derived. It is drawn once and kept in
//! the table, so that no person and no configuration ever holds it.

use bytes::Bytes;
use sockerless_shared::protocol::mac::Key;

use crate::ports::table::{Condition, Key as ItemKey, TableError, Write};
use crate::ports::{Environment, Table};

/// The key, drawn now if nobody has drawn one before.
///
/// # Errors
/// When the table fails or its item is damaged.
pub async fn get_or_draw(
    table: &dyn Table,
    environment: &dyn Environment,
) -> Result<Key, TableError> {
    let place = ItemKey::new("secrets", "master-key");
    let read = async || {
        let item = table.get(&place, environment.now()).await?;
        item.map(|item| serde_json::from_slice(&item.body).map_err(|_| damaged()))
            .transpose()
    };
    if let Some(key) = read().await? {
        return Ok(key);
    }
    let mut bytes = [0; 32];
    environment.fill_random(&mut bytes);
    let drawn = Key::from_random(bytes);
    let put = Write::Put {
        key: place.clone(),
        body: Bytes::from(serde_json::to_vec(&drawn).map_err(|_| damaged())?),
        expires: None,
        condition: Condition::Absent,
    };
    match table.transact(vec![put], environment.now()).await {
        Ok(()) => Ok(drawn),
        // Somebody else was faster.
        Err(TableError::Conflict { .. }) => read().await?.ok_or_else(damaged),
        Err(error) => Err(error),
    }
}

fn damaged() -> TableError {
    TableError::Unavailable(
        "the item secrets/master-key is damaged; restore it from a backup of the table".to_owned(),
    )
}
