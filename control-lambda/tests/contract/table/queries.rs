//! Ranges and pages.

use super::*;

async fn fill(table: &Shared, partition: &str, sorts: &[&str]) {
    for chunk in sorts.chunks(MAX_TRANSACTION_WRITES) {
        let writes = chunk
            .iter()
            .map(|sort| put(&Key::new(partition, *sort), sort, Condition::Absent))
            .collect();
        write(table, writes).await.unwrap();
    }
}

pub(crate) async fn keys_are_compared_by_bytes(table: Shared) {
    let partition = partition();
    // Upper before lower case, digits as text, multi-byte characters last, a
    // prefix before what it begins, no trimming.
    let ordered = [
        " a",
        "10",
        "9",
        "A",
        "Z",
        "a",
        "a ",
        "a!",
        "aa",
        "b",
        "~",
        "é",
        "\u{ffff}",
        "\u{10000}",
    ];
    let mut shuffled = ordered;
    shuffled.reverse();
    shuffled.swap(2, 9);
    fill(&table, &partition, &shuffled).await;
    assert_eq!(sorts(&table, &partition, "", None).await, ordered);
}

pub(crate) async fn partitions_are_apart(table: Shared) {
    let one = partition();
    let two = format!("{one}x");
    fill(&table, &one, &["a"]).await;
    fill(&table, &two, &["a", "b"]).await;
    assert_eq!(sorts(&table, &one, "", None).await, ["a"]);
    assert_eq!(sorts(&table, &two, "", None).await, ["a", "b"]);
    write(
        &table,
        vec![delete(&Key::new(&two, "a"), Condition::Present)],
    )
    .await
    .unwrap();
    assert_eq!(body_of(&table, &Key::new(&one, "a")).await, Some(json("a")));
}

pub(crate) async fn a_query_keeps_to_its_prefix(table: Shared) {
    let partition = partition();
    let all = [
        "a",
        "a/",
        "a/1",
        "a/2",
        "a0",
        "b",
        "é",
        "é1",
        "%",
        "_",
        "\u{10ffff}",
        "\u{10ffff}1",
    ];
    fill(&table, &partition, &all).await;
    for (prefix, expected) in [
        ("a/", vec!["a/", "a/1", "a/2"]),
        ("a", vec!["a", "a/", "a/1", "a/2", "a0"]),
        ("é", vec!["é", "é1"]),
        ("%", vec!["%"]),
        ("_", vec!["_"]),
        ("\u{10ffff}", vec!["\u{10ffff}", "\u{10ffff}1"]),
        ("c", vec![]),
    ] {
        assert_eq!(
            sorts(&table, &partition, prefix, None).await,
            expected,
            "{prefix:?}"
        );
    }
}

pub(crate) async fn pages_add_up_to_the_whole(table: Shared) {
    let partition = partition();
    let all: Vec<String> = (0..25).map(|n| format!("k/{n:02}")).collect();
    fill(
        &table,
        &partition,
        &all.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    fill(&table, &partition, &["j", "l"]).await;
    for limit in [1, 2, 5, 7, 24, 25, 26, 1000] {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned();
            let page = table
                .query(&partition, "k/", after.as_deref(), limit, NOW)
                .await
                .unwrap();
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            seen.extend(page.into_iter().map(|item| item.key.sort));
            if last {
                break;
            }
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    assert_eq!(
        table.query(&partition, "k/", None, 0, NOW).await.unwrap(),
        []
    );
}

pub(crate) async fn large_pages_are_whole(table: Shared) {
    // More than the megabyte that DynamoDB returns at once.
    let partition = partition();
    for n in 0..8 {
        let key = Key::new(&partition, n.to_string());
        write(&table, vec![put_bytes(&key, body_of_length(300_000))])
            .await
            .unwrap();
    }
    let all = table.query(&partition, "", None, 100, NOW).await.unwrap();
    assert_eq!(all.len(), 8);
    let page = table
        .query(&partition, "", Some("1"), 5, NOW)
        .await
        .unwrap();
    assert_eq!(page.len(), 5);
    assert_eq!(page[0].key.sort, "2");
}

pub(crate) async fn a_query_after_any_key_begins_behind_it(table: Shared) {
    let partition = partition();
    fill(&table, &partition, &["a", "m/1", "m/2", "m/3", "z"]).await;
    for (after, expected) in [
        ("", vec!["m/1", "m/2", "m/3"]),
        // Before the prefix, a key that is not there, the last, behind the prefix.
        ("a", vec!["m/1", "m/2", "m/3"]),
        ("m/1", vec!["m/2", "m/3"]),
        ("m/10", vec!["m/2", "m/3"]),
        ("m/3", vec![]),
        ("n", vec![]),
    ] {
        let found = sorts(&table, &partition, "m/", Some(after)).await;
        assert_eq!(found, expected, "after {after:?}");
    }
}
