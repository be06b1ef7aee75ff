//! Items with an end.

use super::*;

pub(crate) async fn expired_items_count_as_absent(table: Shared) {
    let key = Key::new(partition(), "a");
    let end = NOW.plus(Duration::from_millis(1500));
    let before = Timestamp::from_nanos(end.nanos() - 1);
    write(&table, vec![put_until(&key, "1", end, Condition::Absent)])
        .await
        .unwrap();

    assert!(table.get(&key, before).await.unwrap().is_some());
    assert_eq!(
        table
            .query(&key.partition, "", None, 9, before)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        table
            .transact(vec![check(&key, Condition::Absent)], before)
            .await,
        CONFLICT
    );

    assert_eq!(table.get(&key, end).await.unwrap(), None);
    assert_eq!(
        table.query(&key.partition, "", None, 9, end).await.unwrap(),
        []
    );
    for condition in [Condition::Present, Condition::Version(1)] {
        assert_eq!(
            table.transact(vec![check(&key, condition)], end).await,
            CONFLICT
        );
        assert_eq!(
            table.transact(vec![delete(&key, condition)], end).await,
            CONFLICT
        );
        assert_eq!(
            table.transact(vec![put(&key, "2", condition)], end).await,
            CONFLICT
        );
    }
    table
        .transact(vec![check(&key, Condition::Absent)], end)
        .await
        .unwrap();
    table
        .transact(vec![put(&key, "2", Condition::Absent)], end)
        .await
        .unwrap();
    let item = table.get(&key, end).await.unwrap().unwrap();
    assert_eq!((item.version, item.body), (1, json("2")));
}

pub(crate) async fn expired_items_do_not_shorten_pages(table: Shared) {
    let partition = partition();
    let end = NOW.plus(Duration::from_secs(1));
    for n in 0..20 {
        let key = Key::new(&partition, format!("{n:02}"));
        let put = if n % 10 < 8 {
            put_until(&key, "old", end, Condition::Absent)
        } else {
            put(&key, "new", Condition::Absent)
        };
        write(&table, vec![put]).await.unwrap();
    }
    let items = table.query(&partition, "", None, 3, end).await.unwrap();
    let found: Vec<_> = items.iter().map(|item| item.key.sort.as_str()).collect();
    assert_eq!(found, ["08", "09", "18"]);
}

pub(crate) async fn an_expiry_can_be_moved_and_removed(table: Shared) {
    let key = Key::new(partition(), "a");
    let (soon, later) = (
        NOW.plus(Duration::from_secs(1)),
        NOW.plus(Duration::from_secs(60)),
    );
    write(&table, vec![put_until(&key, "1", soon, Condition::Absent)])
        .await
        .unwrap();
    write(
        &table,
        vec![put_until(&key, "2", later, Condition::Version(1))],
    )
    .await
    .unwrap();
    assert_eq!(table.get(&key, soon).await.unwrap().unwrap().version, 2);
    assert_eq!(table.get(&key, later).await.unwrap(), None);
    write(&table, vec![put(&key, "3", Condition::Version(2))])
        .await
        .unwrap();
    assert_eq!(table.get(&key, later).await.unwrap().unwrap().version, 3);
}
