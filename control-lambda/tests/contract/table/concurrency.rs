//! Many callers at once.

use super::*;

pub(crate) async fn of_concurrent_claims_one_wins(table: Shared) {
    let partition = partition();
    for round in 0..5 {
        let name = Key::new(&partition, format!("name/{round}"));
        let attempts: Vec<_> = (0..8)
            .map(|who| {
                let (table, name) = (Arc::clone(&table), name.clone());
                let own = Key::new(&partition, format!("own/{round}/{who}"));
                tokio::spawn(async move {
                    let writes = vec![
                        put(&own, "x", Condition::Absent),
                        put(&name, &who.to_string(), Condition::Absent),
                    ];
                    (who, table.transact(writes, NOW).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for attempt in attempts {
            match attempt.await.unwrap() {
                (who, Ok(())) => winners.push(who),
                (_, Err(TableError::Conflict { index: 1 })) => {}
                (who, Err(error)) => panic!("{who}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(
            body_of(&table, &name).await,
            Some(json(&winners[0].to_string()))
        );
        let own = sorts(&table, &partition, &format!("own/{round}/"), None).await;
        assert_eq!(own, [format!("own/{round}/{}", winners[0])]);
    }
}

pub(crate) async fn concurrent_counters_lose_nothing(table: Shared) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 10;
    let key = Key::new(partition(), "counter");
    write(&table, vec![put(&key, "0", Condition::Absent)])
        .await
        .unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (table, key) = (Arc::clone(&table), key.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let item = table.get(&key, NOW).await.unwrap().unwrap();
                    let next = item.version.to_string();
                    let write = put(&key, &next, Condition::Version(item.version));
                    match table.transact(vec![write], NOW).await {
                        Ok(()) => done += 1,
                        Err(TableError::Conflict { index: 0 }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let item = get(&table, &key).await.unwrap();
    assert_eq!(item.version, WRITERS * EACH + 1);
    assert_eq!(item.body, json(&(WRITERS * EACH).to_string()));
}

pub(crate) async fn a_read_sees_what_was_answered_before(table: Shared) {
    let partition = partition();
    for n in 0..20 {
        let key = Key::new(&partition, format!("{n:02}"));
        write(&table, vec![put(&key, "x", Condition::Absent)])
            .await
            .unwrap();
        assert!(get(&table, &key).await.is_some());
        assert_eq!(sorts(&table, &partition, "", None).await.len(), n + 1);
    }
}
