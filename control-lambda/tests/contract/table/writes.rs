//! Conditions, transactions, limits.

use super::*;

pub(crate) async fn what_was_put_is_read(table: Shared) {
    let key = Key::new(partition(), "ünï/code \u{1F980}");
    let body = Bytes::from_static("{\"a\":\"\u{1F980} \\u0000\"}".as_bytes());
    let put = Write::Put {
        key: key.clone(),
        body: body.clone(),
        expires: None,
        condition: Condition::Always,
    };
    write(&table, vec![put]).await.unwrap();
    let expected = Item {
        key: key.clone(),
        version: 1,
        body,
    };
    assert_eq!(get(&table, &key).await, Some(expected.clone()));
    let all = table
        .query(&key.partition, "", None, 10, NOW)
        .await
        .unwrap();
    assert_eq!(all, [expected]);
}

pub(crate) async fn an_empty_table_answers_nothing(table: Shared) {
    let partition = partition();
    assert_eq!(get(&table, &Key::new(&partition, "a")).await, None);
    assert_eq!(get(&table, &Key::new(&partition, "")).await, None);
    assert_eq!(get(&table, &Key::new("", "a")).await, None);
    assert_eq!(sorts(&table, &partition, "", None).await, [""; 0]);
    assert_eq!(sorts(&table, "", "", None).await, [""; 0]);
}

pub(crate) async fn every_write_raises_the_version(table: Shared) {
    let key = Key::new(partition(), "a");
    for version in 1..=3 {
        write(
            &table,
            vec![put(&key, &version.to_string(), Condition::Always)],
        )
        .await
        .unwrap();
        let item = get(&table, &key).await.unwrap();
        assert_eq!(
            (item.version, item.body),
            (version, json(&version.to_string()))
        );
    }
    write(&table, vec![put(&key, "x", Condition::Present)])
        .await
        .unwrap();
    assert_eq!(get(&table, &key).await.unwrap().version, 4);
    write(&table, vec![put(&key, "x", Condition::Version(4))])
        .await
        .unwrap();
    assert_eq!(get(&table, &key).await.unwrap().version, 5);
}

pub(crate) async fn absent_holds_only_for_what_is_not_there(table: Shared) {
    let key = Key::new(partition(), "a");
    write(&table, vec![put(&key, "1", Condition::Absent)])
        .await
        .unwrap();
    assert_eq!(
        write(&table, vec![put(&key, "2", Condition::Absent)]).await,
        CONFLICT
    );
    assert_eq!(body_of(&table, &key).await, Some(json("1")));
    write(&table, vec![delete(&key, Condition::Always)])
        .await
        .unwrap();
    write(&table, vec![put(&key, "3", Condition::Absent)])
        .await
        .unwrap();
    assert_eq!(body_of(&table, &key).await, Some(json("3")));
}

pub(crate) async fn present_holds_only_for_what_is_there(table: Shared) {
    let key = Key::new(partition(), "a");
    assert_eq!(
        write(&table, vec![put(&key, "1", Condition::Present)]).await,
        CONFLICT
    );
    assert_eq!(get(&table, &key).await, None);
    write(&table, vec![put(&key, "2", Condition::Always)])
        .await
        .unwrap();
    write(&table, vec![put(&key, "3", Condition::Present)])
        .await
        .unwrap();
    assert_eq!(body_of(&table, &key).await, Some(json("3")));
}

pub(crate) async fn a_version_holds_only_for_itself(table: Shared) {
    let key = Key::new(partition(), "a");
    for version in [0, 1] {
        let outcome = write(&table, vec![put(&key, "0", Condition::Version(version))]).await;
        assert_eq!(outcome, CONFLICT);
    }
    write(&table, vec![put(&key, "1", Condition::Absent)])
        .await
        .unwrap();
    for version in [0, 2, u64::MAX] {
        let outcome = write(&table, vec![put(&key, "2", Condition::Version(version))]).await;
        assert_eq!(outcome, CONFLICT);
    }
    write(&table, vec![put(&key, "2", Condition::Version(1))])
        .await
        .unwrap();
    // The same write again: its version has passed.
    assert_eq!(
        write(&table, vec![put(&key, "2", Condition::Version(1))]).await,
        CONFLICT
    );
    assert_eq!(get(&table, &key).await.unwrap().version, 2);
}

pub(crate) async fn conditions_on_delete(table: Shared) {
    let key = Key::new(partition(), "a");
    assert_eq!(
        write(&table, vec![delete(&key, Condition::Present)]).await,
        CONFLICT
    );
    assert_eq!(
        write(&table, vec![delete(&key, Condition::Version(1))]).await,
        CONFLICT
    );
    write(&table, vec![delete(&key, Condition::Absent)])
        .await
        .unwrap();
    write(&table, vec![put(&key, "1", Condition::Absent)])
        .await
        .unwrap();
    assert_eq!(
        write(&table, vec![delete(&key, Condition::Absent)]).await,
        CONFLICT
    );
    assert_eq!(
        write(&table, vec![delete(&key, Condition::Version(2))]).await,
        CONFLICT
    );
    assert!(get(&table, &key).await.is_some());
    write(&table, vec![delete(&key, Condition::Version(1))])
        .await
        .unwrap();
    assert_eq!(get(&table, &key).await, None);
    write(&table, vec![put(&key, "1", Condition::Absent)])
        .await
        .unwrap();
    write(&table, vec![delete(&key, Condition::Present)])
        .await
        .unwrap();
    assert_eq!(get(&table, &key).await, None);
}

pub(crate) async fn a_delete_without_condition_is_no_error(table: Shared) {
    let key = Key::new(partition(), "a");
    write(&table, vec![delete(&key, Condition::Always)])
        .await
        .unwrap();
    write(&table, vec![delete(&key, Condition::Always)])
        .await
        .unwrap();
}

pub(crate) async fn a_check_writes_nothing(table: Shared) {
    let partition = partition();
    let (a, b) = (Key::new(&partition, "a"), Key::new(&partition, "b"));
    write(&table, vec![put(&a, "1", Condition::Absent)])
        .await
        .unwrap();
    let checks = vec![
        check(&a, Condition::Version(1)),
        check(&b, Condition::Absent),
    ];
    write(&table, checks).await.unwrap();
    write(&table, vec![check(&a, Condition::Present)])
        .await
        .unwrap();
    write(&table, vec![check(&b, Condition::Always)])
        .await
        .unwrap();
    assert_eq!(get(&table, &a).await.unwrap().version, 1);
    assert_eq!(get(&table, &b).await, None);
    assert_eq!(
        write(&table, vec![check(&b, Condition::Present)]).await,
        CONFLICT
    );
    assert_eq!(
        write(&table, vec![check(&a, Condition::Absent)]).await,
        CONFLICT
    );
}

pub(crate) async fn a_transaction_is_all_or_nothing(table: Shared) {
    let partition = partition();
    let key = |sort: &str| Key::new(&partition, sort);
    write(&table, vec![put(&key("kept"), "1", Condition::Absent)])
        .await
        .unwrap();
    let writes = |version| {
        vec![
            put(&key("new"), "2", Condition::Absent),
            delete(&key("kept"), Condition::Present),
            check(&key("other"), Condition::Absent),
            put(&key("guard"), "3", Condition::Always),
            put(
                &Key::new(format!("{partition}/b"), "far"),
                "4",
                Condition::Version(version),
            ),
        ]
    };
    assert_eq!(
        write(&table, writes(1)).await,
        Err(TableError::Conflict { index: 4 })
    );
    assert_eq!(sorts(&table, &partition, "", None).await, ["kept"]);

    write(
        &table,
        vec![put(
            &Key::new(format!("{partition}/b"), "far"),
            "0",
            Condition::Absent,
        )],
    )
    .await
    .unwrap();
    write(&table, writes(1)).await.unwrap();
    assert_eq!(sorts(&table, &partition, "", None).await, ["guard", "new"]);
}

pub(crate) async fn the_first_failed_condition_is_named(table: Shared) {
    let partition = partition();
    let writes: Vec<_> = (0..10)
        .map(|n| {
            let condition = if matches!(n, 3 | 7) {
                Condition::Present
            } else {
                Condition::Absent
            };
            put(&Key::new(&partition, n.to_string()), "x", condition)
        })
        .collect();
    assert_eq!(
        write(&table, writes).await,
        Err(TableError::Conflict { index: 3 })
    );
    assert_eq!(sorts(&table, &partition, "", None).await, [""; 0]);
}

pub(crate) async fn a_claim_in_two_items_is_taken_once(table: Shared) {
    let partition = partition();
    let claim = |id: &str| {
        vec![
            put(
                &Key::new(&partition, format!("container/{id}")),
                id,
                Condition::Absent,
            ),
            put(&Key::new(&partition, "name/web"), id, Condition::Absent),
        ]
    };
    write(&table, claim("1")).await.unwrap();
    assert_eq!(
        write(&table, claim("2")).await,
        Err(TableError::Conflict { index: 1 })
    );
    assert_eq!(
        sorts(&table, &partition, "", None).await,
        ["container/1", "name/web"]
    );
}

pub(crate) async fn invalid_transactions_are_refused(table: Shared) {
    let partition = partition();
    let key = |sort: &str| Key::new(&partition, sort);
    let too_many = (0..=MAX_TRANSACTION_WRITES)
        .map(|n| put(&key(&n.to_string()), "x", Condition::Always))
        .collect();
    let twice = vec![
        put(&key("a"), "x", Condition::Always),
        check(&key("a"), Condition::Always),
    ];
    let invalid = [
        vec![],
        too_many,
        twice,
        vec![put(&key(""), "x", Condition::Always)],
        vec![put(&Key::new("", "a"), "x", Condition::Always)],
        vec![delete(
            &key(&"x".repeat(MAX_SORT_BYTES + 1)),
            Condition::Always,
        )],
        vec![check(
            &Key::new("x".repeat(MAX_PARTITION_BYTES + 1), "a"),
            Condition::Always,
        )],
        vec![put_bytes(&key("a"), vec![b'"', 0xff, b'"'])],
    ];
    for (n, writes) in invalid.into_iter().enumerate() {
        let outcome = write(&table, writes).await;
        assert!(
            matches!(outcome, Err(TableError::InvalidTransaction(_))),
            "{n}: {outcome:?}"
        );
    }
    assert_eq!(sorts(&table, &partition, "", None).await, [""; 0]);
}

pub(crate) async fn the_largest_body_fits_and_one_more_byte_does_not(table: Shared) {
    let key = Key::new(partition(), "a");
    let body = body_of_length(MAX_BODY_BYTES);
    write(&table, vec![put_bytes(&key, body.clone())])
        .await
        .unwrap();
    assert_eq!(body_of(&table, &key).await.unwrap(), body);
    let more = write(
        &table,
        vec![put_bytes(&key, body_of_length(MAX_BODY_BYTES + 1))],
    )
    .await;
    assert_eq!(more, Err(TableError::TooLarge(MAX_BODY_BYTES + 1)));
    assert_eq!(get(&table, &key).await.unwrap().version, 1);
}

pub(crate) async fn the_largest_transaction_fits(table: Shared) {
    let partition = partition();
    let sort = |n| format!("{n:03}");
    let writes = |condition| {
        (0..MAX_TRANSACTION_WRITES)
            .map(|n| put(&Key::new(&partition, sort(n)), "x", condition))
            .collect::<Vec<_>>()
    };
    write(&table, writes(Condition::Absent)).await.unwrap();
    write(&table, writes(Condition::Version(1))).await.unwrap();
    let all: Vec<_> = (0..MAX_TRANSACTION_WRITES).map(sort).collect();
    assert_eq!(sorts(&table, &partition, "", None).await, all);
}

pub(crate) async fn too_many_bytes_in_one_transaction_are_refused(table: Shared) {
    let partition = partition();
    let writes = |count| {
        (0..count)
            .map(|n: usize| {
                put_bytes(
                    &Key::new(&partition, n.to_string()),
                    body_of_length(380_000),
                )
            })
            .collect::<Vec<_>>()
    };
    let outcome = write(&table, writes(11)).await;
    assert!(
        matches!(outcome, Err(TableError::InvalidTransaction(_))),
        "{outcome:?}"
    );
    write(&table, writes(10)).await.unwrap();
}

pub(crate) async fn the_longest_keys_fit(table: Shared) {
    let mut long = partition();
    long.extend(std::iter::repeat_n('p', MAX_PARTITION_BYTES - long.len()));
    let key = Key::new(long, "s".repeat(MAX_SORT_BYTES));
    write(&table, vec![put(&key, "x", Condition::Absent)])
        .await
        .unwrap();
    assert_eq!(get(&table, &key).await.unwrap().key, key);
}
