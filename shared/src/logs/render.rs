//! From records to what `docker logs` prints.
//!
//! Docker's log is one of lines: what a process wrote in pieces appears as one
//! line with the time of its end, and `--tail`, `--since` and `--timestamps`
//! count and mark lines. Each stream of each run has lines of its own.

use super::{LogQuery, Record};
use crate::protocol::stdcopy::{self, OutputStream};
use crate::timestamp::Timestamp;

/// Longest line kept together, in bytes; Docker cuts a longer one into
/// entries of this size (its `json-file` driver's buffer).
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// One line of the log, with its newline if it had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From which stream.
    pub stream: OutputStream,
    /// When its end was read; of a line that was cut, when its first entry was
    /// complete (the `Copier` of Docker's log drivers does the same).
    pub time: Timestamp,
    /// The bytes, at most [`MAX_LINE_BYTES`] plus a newline.
    pub data: Vec<u8>,
}

/// Puts records together to lines, record by record, in the order in which
/// lines are completed.
#[derive(Debug, Default)]
pub struct LineAssembler {
    pending: [Pending; 2],
}

/// What there is of a stream's line without its end.
#[derive(Debug, Default)]
struct Pending {
    line: Option<Line>,
    /// The time of the entries before, if the line was cut.
    cut: Option<Timestamp>,
}

impl LineAssembler {
    /// Takes one record and calls `emit` with each line that it completes.
    pub fn push(&mut self, record: &Record, mut emit: impl FnMut(Line)) {
        let Pending { line: slot, cut } =
            &mut self.pending[usize::from(record.stream.number() - 1)];
        for piece in record.data.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while !piece.is_empty() {
                let line = slot.get_or_insert_with(|| Line {
                    stream: record.stream,
                    time: record.time,
                    data: Vec::new(),
                });
                line.time = cut.unwrap_or(record.time);
                let room = MAX_LINE_BYTES.saturating_sub(line.data.len());
                let take = if piece.len() <= room || piece == b"\n" {
                    piece.len()
                } else {
                    room
                };
                line.data.extend_from_slice(&piece[..take]);
                piece = &piece[take..];
                if line.data.ends_with(b"\n") {
                    *cut = None;
                } else if piece.is_empty() {
                    continue;
                } else {
                    *cut = Some(line.time);
                }
                if let Some(line) = slot.take() {
                    emit(line);
                }
            }
        }
    }

    /// The unfinished lines, earliest first; what a reader sees at the end of the log.
    pub fn finish(&mut self, mut emit: impl FnMut(Line)) {
        let pending = self.pending.iter_mut();
        let mut rest: Vec<Line> = pending.filter_map(|stream| stream.line.take()).collect();
        rest.sort_by_key(|line| line.time);
        rest.into_iter().for_each(&mut emit);
    }
}

impl LogQuery {
    /// Whether a line is wanted, `tail` apart.
    #[must_use]
    pub fn wants(&self, line: &Line) -> bool {
        let stream = match line.stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        };
        stream
            && self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
    }

    /// Appends a line in the form the client asked for.
    pub fn write(&self, out: &mut Vec<u8>, line: &Line) {
        let mut stamp = String::new();
        if self.timestamps {
            stamp.push_str(&line.time.rfc3339_fixed());
            stamp.push(' ');
        }
        if let Some(attributes) = &self.details {
            stamp.push_str(attributes);
            stamp.push(' ');
        }
        if self.raw {
            out.extend_from_slice(stamp.as_bytes());
            out.extend_from_slice(&line.data);
        } else {
            let mut payload = Vec::with_capacity(stamp.len() + line.data.len());
            payload.extend_from_slice(stamp.as_bytes());
            payload.extend_from_slice(&line.data);
            stdcopy::write_frame(out, line.stream, &payload);
        }
    }
}

/// The whole of what `docker logs` without `-f` prints of these runs.
#[must_use]
pub fn render<R: AsRef<[Record]>>(runs: &[R], query: &LogQuery) -> Vec<u8> {
    let mut lines = Vec::new();
    for records in runs {
        let mut assembler = LineAssembler::default();
        for record in records.as_ref() {
            assembler.push(record, |line| lines.push(line));
        }
        // Of two runs no line is made, though the first had no end.
        assembler.finish(|line| lines.push(line));
    }
    let skip = query.tail.map_or(0, |tail| {
        lines
            .len()
            .saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX))
    });
    let mut out = Vec::new();
    for line in lines[skip..].iter().filter(|line| query.wants(line)) {
        query.write(&mut out, line);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(stream: OutputStream, secs: i64, data: &str) -> Record {
        Record {
            stream,
            time: Timestamp::from_secs(secs),
            data: data.into(),
        }
    }

    fn text(records: &[Record], query: &LogQuery) -> String {
        String::from_utf8(render(
            &[records],
            &LogQuery {
                raw: true,
                ..query.clone()
            },
        ))
        .unwrap()
    }

    #[test]
    fn pieces_become_lines_with_the_time_of_their_end() {
        let records = [
            record(OutputStream::Stdout, 1, "a"),
            record(OutputStream::Stderr, 2, "x\n"),
            record(OutputStream::Stdout, 3, "b\nc"),
        ];
        let query = LogQuery {
            timestamps: true,
            ..LogQuery::default()
        };
        assert_eq!(
            text(&records, &query),
            "1970-01-01T00:00:02.000000000Z x\n\
             1970-01-01T00:00:03.000000000Z ab\n\
             1970-01-01T00:00:03.000000000Z c"
        );
    }

    #[test]
    fn tail_since_until_and_streams_choose_lines() {
        let records: Vec<_> = (1..=5)
            .map(|n| record(OutputStream::Stdout, n, &format!("{n}\n")))
            .collect();
        let all = LogQuery::default();
        assert_eq!(
            text(
                &records,
                &LogQuery {
                    tail: Some(2),
                    ..all.clone()
                }
            ),
            "4\n5\n"
        );
        assert_eq!(
            text(
                &records,
                &LogQuery {
                    tail: Some(0),
                    ..all.clone()
                }
            ),
            ""
        );
        let since = Some(Timestamp::from_secs(4));
        assert_eq!(
            text(
                &records,
                &LogQuery {
                    since,
                    ..all.clone()
                }
            ),
            "4\n5\n"
        );
        let until = Some(Timestamp::from_secs(2));
        assert_eq!(
            text(
                &records,
                &LogQuery {
                    until,
                    ..all.clone()
                }
            ),
            "1\n2\n"
        );
        assert_eq!(
            text(
                &records,
                &LogQuery {
                    stdout: false,
                    ..all.clone()
                }
            ),
            ""
        );
        // The last lines are chosen first, and then what is left of them.
        let tail = Some(2);
        let before = LogQuery { tail, until, ..all };
        assert_eq!(text(&records, &before), "");
    }

    #[test]
    fn tail_counts_the_lines_of_both_streams() {
        let records = [
            record(OutputStream::Stdout, 1, "out\n"),
            record(OutputStream::Stderr, 2, "err\n"),
        ];
        let query = LogQuery {
            tail: Some(1),
            stderr: false,
            ..LogQuery::default()
        };
        assert_eq!(text(&records, &query), "");
    }

    #[test]
    fn the_runs_of_a_container_share_no_line() {
        let runs = [
            [record(OutputStream::Stdout, 1, "first")],
            [record(OutputStream::Stdout, 2, "second\n")],
        ];
        let query = LogQuery {
            tail: Some(1),
            raw: true,
            ..LogQuery::default()
        };
        assert_eq!(render(&runs, &query), b"second\n");
    }

    #[test]
    fn details_stand_between_the_time_and_the_line() {
        let records = [record(OutputStream::Stdout, 1, "a\n")];
        let query = |details: &str| LogQuery {
            timestamps: true,
            details: Some(details.to_owned()),
            ..LogQuery::default()
        };
        assert_eq!(
            text(&records, &query("")),
            "1970-01-01T00:00:01.000000000Z  a\n"
        );
        assert_eq!(
            text(&records, &query("a=b,c=d")),
            "1970-01-01T00:00:01.000000000Z a=b,c=d a\n"
        );
    }

    #[test]
    fn a_line_without_end_is_cut_where_docker_cuts_it() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let mut lengths = Vec::new();
        let mut assembler = LineAssembler::default();
        assembler.push(&record(OutputStream::Stdout, 1, &long), |line| {
            lengths.push(line.data.len())
        });
        assembler.finish(|line| lengths.push(line.data.len()));
        assert_eq!(lengths, [MAX_LINE_BYTES, 1]);
    }

    #[test]
    fn a_line_that_was_cut_has_the_time_of_its_first_entry_throughout() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let mut times = Vec::new();
        let mut assembler = LineAssembler::default();
        for (secs, data) in [(1, long.as_str()), (2, "y\n"), (3, "z\n")] {
            assembler.push(&record(OutputStream::Stdout, secs, data), |line| {
                times.push(line.time)
            });
        }
        assert_eq!(times, [1, 1, 3].map(Timestamp::from_secs));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_repeated(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..30)
        ) {
            let records: Vec<_> = pieces.iter()
                .map(|data| Record { stream: OutputStream::Stdout, time: Timestamp::default(), data: data.clone() })
                .collect();
            let query = LogQuery { raw: true, ..LogQuery::default() };
            prop_assert_eq!(render(&[records], &query), pieces.concat());
        }
    }
}
