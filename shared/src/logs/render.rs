//! From records to what `docker logs` prints.
//!
//! Docker's log is one of lines: what a process wrote in pieces appears as one
//! line with the time of its first piece, and `--tail`, `--since` and
//! `--timestamps` count and mark lines. Each stream has lines of its own.

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
    /// When its first byte was read.
    pub time: Timestamp,
    /// The bytes, at most [`MAX_LINE_BYTES`] plus a newline.
    pub data: Vec<u8>,
}

/// Puts records together to lines, record by record, in the order in which
/// lines are completed.
#[derive(Debug, Default)]
pub struct LineAssembler {
    pending: [Option<Line>; 2],
}

impl LineAssembler {
    /// Takes one record and calls `emit` with each line that it completes.
    pub fn push(&mut self, record: &Record, mut emit: impl FnMut(Line)) {
        let slot = &mut self.pending[usize::from(record.stream.number() - 1)];
        for piece in record.data.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while !piece.is_empty() {
                let line = slot.get_or_insert_with(|| Line {
                    stream: record.stream,
                    time: record.time,
                    data: Vec::new(),
                });
                let room = MAX_LINE_BYTES.saturating_sub(line.data.len());
                let take = if piece.len() <= room || piece == b"\n" {
                    piece.len()
                } else {
                    room
                };
                line.data.extend_from_slice(&piece[..take]);
                piece = &piece[take..];
                let complete = line.data.ends_with(b"\n") || !piece.is_empty();
                if complete && let Some(line) = slot.take() {
                    emit(line);
                }
            }
        }
    }

    /// The unfinished lines, earliest first; what a reader sees at the end of the log.
    pub fn finish(&mut self, mut emit: impl FnMut(Line)) {
        let mut rest: Vec<Line> = self.pending.iter_mut().filter_map(Option::take).collect();
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
        let stamp = if self.timestamps {
            format!("{} ", line.time.rfc3339_fixed())
        } else {
            String::new()
        };
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

/// The whole of what `docker logs` without `-f` prints of these records.
#[must_use]
pub fn render(records: &[Record], query: &LogQuery) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut assembler = LineAssembler::default();
    let mut keep = |line: Line| {
        if query.wants(&line) {
            lines.push(line);
        }
    };
    for record in records {
        assembler.push(record, &mut keep);
    }
    assembler.finish(&mut keep);
    let skip = query.tail.map_or(0, |tail| {
        lines
            .len()
            .saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX))
    });
    let mut out = Vec::new();
    for line in &lines[skip..] {
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
            records,
            &LogQuery {
                raw: true,
                ..query.clone()
            },
        ))
        .unwrap()
    }

    #[test]
    fn pieces_become_lines_with_the_time_of_their_first_byte() {
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
             1970-01-01T00:00:01.000000000Z ab\n\
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
                    ..all
                }
            ),
            ""
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

    proptest! {
        #[test]
        fn no_byte_is_lost_or_repeated(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..30)
        ) {
            let records: Vec<_> = pieces.iter()
                .map(|data| Record { stream: OutputStream::Stdout, time: Timestamp::default(), data: data.clone() })
                .collect();
            let query = LogQuery { raw: true, ..LogQuery::default() };
            prop_assert_eq!(render(&records, &query), pieces.concat());
        }
    }
}
