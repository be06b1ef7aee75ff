use std::io::Read;
use std::time::Duration;

use flate2::read::ZlibDecoder;
use proptest::prelude::*;
use sockerless_shared::logs::spool::decode_all;
use tokio::time::timeout;

use super::pack::{Packed, pack};
use super::*;

fn spool() -> Spool {
    // The smallest there is: 1 MiB.
    Spool::in_file(nameless_file(&std::env::temp_dir()).unwrap(), 0)
}

async fn append(spool: &Spool, data: &[u8]) {
    spool
        .append(OutputStream::Stdout, Timestamp::from_secs(1), data)
        .await
        .unwrap();
}

fn bytes(records: &[Record], stream: OutputStream) -> Vec<u8> {
    records
        .iter()
        .filter(|record| record.stream == stream)
        .flat_map(|record| record.data.clone())
        .collect()
}

async fn rest(reader: &mut Reader) -> Vec<Record> {
    let mut all = Vec::new();
    while let Some(records) = reader.next().await.unwrap() {
        all.extend(records);
    }
    all
}

#[tokio::test]
async fn history_and_what_follows_join_without_gap_or_repetition() {
    let spool = spool();
    append(&spool, b"before ").await;
    let mut all = spool.attach(From::Start);
    let mut live = spool.attach(From::Now);
    append(&spool, b"after").await;
    spool.close();
    assert_eq!(
        bytes(&rest(&mut all).await, OutputStream::Stdout),
        b"before after"
    );
    assert_eq!(
        bytes(&rest(&mut live).await, OutputStream::Stdout),
        b"after"
    );
}

#[tokio::test]
async fn a_reader_waits_for_more_and_for_the_end() {
    let spool = spool();
    let mut reader = spool.read_log();
    let task = tokio::spawn(async move { rest(&mut reader).await });
    tokio::task::yield_now().await;
    append(&spool, b"x").await;
    tokio::task::yield_now().await;
    spool.close();
    assert_eq!(bytes(&task.await.unwrap(), OutputStream::Stdout), b"x");
}

#[tokio::test]
async fn the_log_forgets_its_oldest_records_and_says_so() {
    let spool = spool();
    let piece = [b'x'; 64 * 1024];
    for _ in 0..40 {
        append(&spool, &piece).await;
    }
    append(&spool, b"last").await;
    spool.close();
    let records = rest(&mut spool.read_log()).await;
    let said = String::from_utf8(bytes(&records, OutputStream::Stderr)).unwrap();
    assert!(
        said.contains("bytes of older output are not kept"),
        "{said}"
    );
    assert!(bytes(&records, OutputStream::Stdout).ends_with(b"last"));
    let lost: usize = said.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let headers = 13 * (records.len() - 1);
    let kept = bytes(&records, OutputStream::Stdout).len() + headers;
    assert_eq!(lost + kept, 41 * 13 + 40 * piece.len() + 4);
}

#[tokio::test]
async fn an_attached_client_gets_everything_and_the_process_waits_for_it() {
    let spool = spool();
    let mut client = spool.attach(From::Start);
    let writer = {
        let spool = spool.clone();
        tokio::spawn(async move {
            for n in 0..60u8 {
                append(&spool, &[n; 64 * 1024]).await;
            }
            spool.close();
        })
    };
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    let records = rest(&mut client).await;
    let expected: Vec<u8> = (0..60u8).flat_map(|n| [n; 64 * 1024]).collect();
    assert!(bytes(&records, OutputStream::Stdout) == expected);
    assert!(bytes(&records, OutputStream::Stderr).is_empty());
    writer.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_lets_the_process_go_on() {
    let spool = spool();
    let client = spool.attach(From::Start);
    let writer = {
        let spool = spool.clone();
        tokio::spawn(async move { append(&spool, &vec![0; 3 * 1024 * 1024]).await })
    };
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    drop(client);
    timeout(Duration::from_secs(5), writer)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_packed_is_the_spool() {
    let spool = spool();
    append(&spool, b"hello\n").await;
    spool
        .append(OutputStream::Stderr, Timestamp::from_secs(2), b"bad\n")
        .await
        .unwrap();
    spool.close();
    let Packed::Small(small) = pack(&spool, &std::env::temp_dir()).unwrap() else {
        panic!("a few bytes are small");
    };
    let mut raw = Vec::new();
    ZlibDecoder::new(&small[..]).read_to_end(&mut raw).unwrap();
    assert_eq!(decode_all(&raw).unwrap(), rest(&mut spool.read_log()).await);
}

#[tokio::test]
async fn a_large_spool_is_packed_into_a_file() {
    let spool = spool();
    let mut noise = vec![0; 100_000];
    getrandom::fill(&mut noise).unwrap();
    append(&spool, &noise).await;
    spool.close();
    let Packed::Large(mut file, length) = pack(&spool, &std::env::temp_dir()).unwrap() else {
        panic!("noise does not shrink");
    };
    let mut packed = Vec::new();
    file.read_to_end(&mut packed).unwrap();
    assert_eq!(packed.len() as u64, length);
    let mut raw = Vec::new();
    ZlibDecoder::new(&packed[..]).read_to_end(&mut raw).unwrap();
    let records = decode_all(&raw).unwrap();
    assert!(bytes(&records, OutputStream::Stdout) == noise);
}

proptest! {
    /// Readers that begin and read at arbitrary moments, against a plain list.
    #[test]
    fn every_attached_reader_sees_exactly_what_came_since(
        steps in prop::collection::vec((0..3u8, prop::collection::vec(any::<u8>(), 1..50)), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let spool = spool();
            let mut written: Vec<u8> = Vec::new();
            let mut readers = Vec::new();
            for (step, data) in steps {
                match step {
                    0 => {
                        append(&spool, &data).await;
                        written.extend(data);
                    }
                    1 => readers.push((spool.attach(From::Now), written.len(), Vec::new())),
                    _ => for (reader, _, seen) in &mut readers {
                        if let Next::Records(records) = reader.poll().unwrap() {
                            seen.extend(bytes(&records, OutputStream::Stdout));
                        }
                    },
                }
            }
            spool.close();
            for (mut reader, from, mut seen) in readers {
                seen.extend(bytes(&rest(&mut reader).await, OutputStream::Stdout));
                assert_eq!(seen, &written[from..]);
            }
        });
    }
}
