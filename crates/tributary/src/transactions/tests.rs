mod session;

use pgoutput::encode::TupleBuilder;
use pgoutput::{Begin, Insert, Lsn, Message, Oid, PgTimestamp, Relation, RelationColumn, ReplicaIdentity};
use proptest::prelude::*;

use self::session::{Database, Step, fold};
use super::*;

/// A relation whose columns are c0 to cN.
fn relation(xid: Option<u32>, oid: u32, columns: usize) -> Message<'static> {
    let columns = NAMES.iter().take(columns).map(|name| RelationColumn {
        is_identity: *name == "c0",
        name,
        type_oid: Oid(25),
        type_modifier: -1,
    });
    Message::Relation(Relation {
        xid: xid.map(Xid),
        oid: Oid(oid),
        namespace: "public",
        name: if oid == 1 {
            "t1"
        } else if oid == 2 {
            "t2"
        } else {
            "t3"
        },
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    })
}

fn row(columns: usize, value: u32) -> TupleBuilder {
    (0..columns).fold(TupleBuilder::new(), |row, at| row.text(format!("{value}.{at}")))
}

fn insert(xid: Option<u32>, oid: u32, row: &TupleBuilder) -> Message<'_> {
    Message::Insert(Insert { xid: xid.map(Xid), relation: Oid(oid), new: row.tuple() })
}

fn start(xid: u32, first_segment: bool) -> Message<'static> {
    Message::StreamStart(StreamStart { xid: Xid(xid), first_segment })
}

fn commit(xid: u32, lsn: u64) -> Message<'static> {
    let (commit_lsn, end_lsn, commit_time) = (Lsn(lsn), Lsn(lsn + 8), PgTimestamp(0));
    Message::StreamCommit(StreamCommit { xid: Xid(xid), commit_lsn, end_lsn, commit_time })
}

fn abort(xid: u32, subxid: u32) -> Message<'static> {
    Message::StreamAbort(StreamAbort { xid: Xid(xid), subxid: Xid(subxid), at: None })
}

/// What the fold makes of messages, one line each, without what it says of tables.
fn lines(messages: &[Message<'_>]) -> Vec<String> {
    lines_asking(messages, &[])
}

fn lines_asking(messages: &[Message<'_>], rolled_back: &[Xid]) -> Vec<String> {
    let mut frames = Vec::new();
    let mut in_stream = false;
    for message in messages {
        in_stream &= !matches!(message, Message::StreamStop);
        frames.push(session::encoded(message, in_stream || matches!(message, Message::StreamStop)));
        in_stream |= matches!(message, Message::StreamStart(_));
    }
    let lines = session::fold_asking(&frames, Lsn::ZERO, rolled_back).expect("it makes sense");
    lines.into_iter().filter(|line| !line.starts_with("event")).collect()
}

/// T16
#[test]
fn t16_blocks_take_turns_and_each_transaction_comes_out_whole_at_its_commit() {
    let rows: Vec<_> = (0..4).map(|value| row(1, value)).collect();
    let lines = lines(&[
        start(10, true),
        relation(Some(10), 1, 1),
        insert(Some(10), 1, &rows[0]),
        Message::StreamStop,
        start(11, true),
        relation(Some(11), 1, 1),
        insert(Some(11), 1, &rows[1]),
        Message::StreamStop,
        start(10, false),
        insert(Some(10), 1, &rows[2]),
        Message::StreamStop,
        commit(11, 0x200),
        start(10, false),
        insert(Some(10), 1, &rows[3]),
        Message::StreamStop,
        commit(10, 0x300),
    ]);
    assert_eq!(
        lines,
        [
            "begin 11 at 0/200",
            "I 1 v1 public.t1 1.0",
            "commit 0/208 of 1",
            "begin 10 at 0/300",
            "I 1 v1 public.t1 0.0",
            "I 2 v1 public.t1 2.0",
            "I 3 v1 public.t1 3.0",
            "commit 0/308 of 3",
        ]
    );
}

/// T17
#[test]
fn t17_what_a_subtransaction_sent_goes_with_it_its_columns_too() {
    let rows: Vec<_> = [(1, 0), (2, 1), (1, 2), (1, 3)].map(|(columns, value)| row(columns, value)).into();
    let lines = lines(&[
        start(10, true),
        relation(Some(10), 1, 1),
        insert(Some(10), 1, &rows[0]),
        // ALTER TABLE in a savepoint, and what follows its rollback.
        relation(Some(12), 1, 2),
        insert(Some(12), 1, &rows[1]),
        Message::StreamStop,
        abort(10, 12),
        start(10, false),
        relation(Some(10), 1, 1),
        insert(Some(10), 1, &rows[2]),
        Message::StreamStop,
        commit(10, 0x300),
        // Postgres counts the relation as sent by now.
        Message::Begin(Begin { final_lsn: Lsn(0x400), commit_time: PgTimestamp(0), xid: Xid(13) }),
        insert(None, 1, &rows[3]),
    ]);
    assert_eq!(
        lines,
        [
            "begin 10 at 0/300",
            "I 1 v1 public.t1 0.0",
            "I 2 v1 public.t1 2.0",
            "commit 0/308 of 2",
            "begin 13 at 0/400",
            "I 1 v1 public.t1 3.0",
        ]
    );
}

/// What Postgres 14 to 18 sends of a part that was on its disk as a whole, and was rolled back: no Stream Abort. What was announced
/// within is not announced again.
#[test]
fn t17_a_part_whose_rollback_is_untold_goes_and_its_announcements_stay() {
    let rows: Vec<_> = (0..5).map(|value| row(1, value)).collect();
    let messages = [
        start(10, true),
        relation(Some(10), 1, 1),
        insert(Some(10), 1, &rows[0]),
        relation(Some(11), 2, 1),
        insert(Some(11), 2, &rows[1]),
        insert(Some(12), 1, &rows[2]),
        insert(Some(13), 2, &rows[3]),
        Message::StreamStop,
        abort(10, 12),
        start(10, false),
        insert(Some(10), 2, &rows[4]),
        Message::StreamStop,
        commit(10, 0x300),
    ];
    let expected = [
        "begin 10 at 0/300",
        "I 1 v1 public.t1 0.0",
        "I 2 v1 public.t2 3.0",
        "I 3 v1 public.t2 4.0",
        "commit 0/308 of 3",
    ];
    assert_eq!(lines_asking(&messages, &[Xid(11), Xid(12), Xid(99)]), expected);
}

#[test]
fn only_parts_of_unknown_end_are_asked_for() {
    let gauge = Gauge::new(1 << 20);
    let mut transactions = session::transactions(&gauge);
    let push = |transactions: &mut Transactions, xid| {
        transactions.push(&Streamed { xid: Xid(xid), tag: b'I', body: b"" }).expect("in a block");
    };
    let first = StreamStart { xid: Xid(10), first_segment: true };
    transactions.start(&first).expect("in order");
    for xid in [10, 11, 12, 11, 13, 10] {
        push(&mut transactions, xid);
    }
    transactions.stop();
    transactions.abort(&StreamAbort { xid: Xid(10), subxid: Xid(12), at: None });
    let (commit_lsn, end_lsn, commit_time) = (Lsn(1), Lsn(2), PgTimestamp(0));
    let replay = transactions
        .commit(&StreamCommit { xid: Xid(10), commit_lsn, end_lsn, commit_time })
        .expect("it began");
    let mut untold = replay.untold().to_vec();
    untold.sort();
    assert_eq!(untold, [Xid(11), Xid(13)]);
}

#[test]
fn a_transaction_that_rolls_back_leaves_nothing() {
    let row = row(1, 0);
    let lines = lines(&[
        start(10, true),
        relation(Some(10), 1, 1),
        insert(Some(10), 1, &row),
        Message::StreamStop,
        abort(10, 10),
        // Never heard of, as one whose changes were all unpublished.
        abort(11, 11),
        abort(11, 12),
        start(13, true),
        Message::StreamStop,
        commit(13, 0x300),
    ]);
    assert_eq!(lines, ["begin 13 at 0/300", "commit 0/308 of 0"]);
}

#[test]
fn i2_a_streamed_transaction_of_before_the_resume_point_is_dropped_whole_but_not_its_columns() {
    let row = row(1, 0);
    let messages = [
        (start(10, true), false),
        (relation(Some(10), 1, 1), true),
        (insert(Some(10), 1, &row), true),
        (Message::StreamStop, true),
        (commit(10, 0x300), false),
        (Message::Begin(Begin { final_lsn: Lsn(0x400), commit_time: PgTimestamp(0), xid: Xid(13) }), false),
        (insert(None, 1, &row), false),
    ];
    let frames: Vec<_> =
        messages.iter().map(|(message, in_stream)| session::encoded(message, *in_stream)).collect();
    let lines = fold(&frames, Lsn(0x301)).expect("it makes sense");
    let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with("event")).collect();
    assert_eq!(
        lines,
        ["begin 10 at 0/300", "commit 0/308 of 0", "begin 13 at 0/400", "I 1 v1 public.t1 0.0"]
    );
    // The transaction at the resume point itself is new (T02, T05).
    let lines = fold(&frames, Lsn(0x300)).expect("it makes sense");
    assert!(lines.iter().any(|line| line == "commit 0/308 of 1"), "{lines:?}");
}

#[test]
fn a_stream_that_contradicts_itself_is_refused() {
    let mut transactions = session::transactions(&Gauge::new(1 << 20));
    let start = |first_segment| StreamStart { xid: Xid(10), first_segment };
    let message = Streamed { xid: Xid(10), tag: b'I', body: b"" };
    let commit =
        StreamCommit { xid: Xid(10), commit_lsn: Lsn(1), end_lsn: Lsn(2), commit_time: PgTimestamp(0) };
    let no_beginning = StreamError::NoBeginning { xid: Xid(10) };
    assert_eq!(transactions.start(&start(false)), Err(no_beginning));
    assert_eq!(transactions.commit(&commit).err(), Some(no_beginning));
    assert_eq!(transactions.push(&message), Err(StreamError::OutsideBlock { xid: Xid(10) }));
    assert_eq!(transactions.start(&start(true)), Ok(()));
    assert_eq!(transactions.start(&start(true)), Err(StreamError::BeginsAgain { xid: Xid(10) }));
}

/// T100: only the tail of a transaction is in memory, and all of it is counted.
#[tokio::test]
async fn memory_stays_bounded_however_large_transactions_are() {
    let gauge = Gauge::new(MEMORY_SHARE * (1 << 20));
    let mut transactions = session::transactions(&gauge);
    let body = vec![b'x'; 100_000];
    let xids = [10, 11, 12];
    for block in 0..200 {
        for xid in xids.map(Xid) {
            transactions.start(&StreamStart { xid, first_segment: block == 0 }).expect("in order");
            transactions.push(&Streamed { xid, tag: b'I', body: &body }).expect("in a block");
            transactions.stop();
            transactions.settle().await.expect("room");
            assert!(gauge.used() <= 1 << 20, "{}", gauge.used());
        }
    }
    assert_eq!(transactions.count(), 3);
    assert!(transactions.spooled_bytes() >= 3 * 200 * 100_000);
    transactions.abort(&StreamAbort { xid: Xid(10), subxid: Xid(10), at: None });
    let (commit_lsn, end_lsn, commit_time) = (Lsn(1), Lsn(2), PgTimestamp(0));
    let commit = StreamCommit { xid: Xid(11), commit_lsn, end_lsn, commit_time };
    let mut replay = transactions.commit(&commit).expect("it began");
    let mut messages = 0;
    while replay.fill().await.expect("what was written") {
        while let Some(message) = replay.pop().expect("what was written") {
            assert_eq!(message.len(), 100_001);
            messages += 1;
        }
        assert!(gauge.used() <= 3 << 20, "{}", gauge.used());
    }
    assert_eq!(messages, 200);
    drop(replay);
    drop(transactions);
    assert_eq!(gauge.used(), 0);
}

#[tokio::test]
async fn a_message_larger_than_a_piece_keeps_its_place() {
    let mut transactions = session::transactions(&Gauge::new(MEMORY_SHARE * (1 << 20)));
    let xid = Xid(10);
    transactions.start(&StreamStart { xid, first_segment: true }).expect("in order");
    let lengths = [10, 3 << 20, 20, 5 << 20, 0];
    for length in lengths {
        let body = vec![b'x'; length];
        transactions.push(&Streamed { xid, tag: b'I', body: &body }).expect("in a block");
        transactions.settle().await.expect("room");
    }
    transactions.stop();
    let (commit_lsn, end_lsn, commit_time) = (Lsn(1), Lsn(2), PgTimestamp(0));
    let commit = StreamCommit { xid, commit_lsn, end_lsn, commit_time };
    let mut replay = transactions.commit(&commit).expect("it began");
    let mut found = Vec::new();
    while replay.fill().await.expect("what was written") {
        while let Some(message) = replay.pop().expect("what was written") {
            found.push(message.len() - 1);
        }
    }
    assert_eq!(found, lengths);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The rows, their numbers, their schemas and all that is said of tables: streamed or not, they are the same.
    #[test]
    fn on_equals_off(steps in session::steps(), resume in 0_u64..0x400) {
        let mut database = Database::default();
        steps.iter().for_each(|step| database.step(step));
        let [off, on] = [&database.off.frames, &database.on.frames].map(|frames| fold(frames, Lsn(resume)));
        let [off, on] = [off, on].map(|lines| session::without_empty(lines.expect("it makes sense")));
        prop_assert_eq!(off, on);
    }
}

/// Wherever a stream breaks: the transactions that were whole before, and what comes when it resumes behind the last of them, are everything, once.
#[test]
fn i2_a_stream_that_breaks_anywhere_and_resumes_brings_every_transaction_once() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut breaks = 0;
    for _ in 0..8 {
        let steps = session::steps().new_tree(&mut runner).expect("steps").current();
        let mut database = Database::default();
        steps.iter().for_each(|step| database.step(step));
        for sent in [&database.off, &database.on] {
            let rows = |frames: &[Vec<u8>], resume_lsn| -> Vec<String> {
                let lines = fold(frames, resume_lsn).expect("it makes sense");
                let lines = lines.into_iter().filter(|line| !line.starts_with("event"));
                // The log keeps the numbers of schemas over a break; here the fold begins to count anew.
                let unnumbered = |line: String| -> String {
                    let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with('v')).collect();
                    words.join(" ")
                };
                lines.map(unnumbered).collect()
            };
            let all = rows(&sent.frames, Lsn::ZERO);
            for whole in 0..=sent.frames.len() {
                let mut before = rows(&sent.frames[..whole], Lsn::ZERO);
                // What a cut can hold.
                before.truncate(
                    before.iter().rposition(|line| line.starts_with("commit")).map_or(0, |at| at + 1),
                );
                let end =
                    before.last().map(|line| line.split(' ').nth(1).expect("a position").parse::<Lsn>());
                let resume_lsn = end.map_or(Lsn::ZERO, |end| end.expect("a position"));
                let behind = rows(&sent.frames, resume_lsn);
                assert_eq!(
                    session::without_empty([before, behind].concat()),
                    session::without_empty(all.clone()),
                    "{whole} messages"
                );
                breaks += 1;
            }
        }
    }
    assert!(breaks > 500, "only {breaks} breaks");
}

/// The property is worth something only if what it is about happens.
#[test]
fn the_random_sessions_have_everything_in_them() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut aborted, mut committed, mut resent) = (0, 0, 0);
    for _ in 0..200 {
        let steps: Vec<Step> = session::steps().new_tree(&mut runner).expect("a session").current();
        let mut database = Database::default();
        steps.iter().for_each(|step| database.step(step));
        aborted += database.on.part_aborts;
        committed += database.on.stream_commits;
        resent += database.on.relations;
    }
    assert!(aborted > 50 && committed > 200 && resent > 500, "{aborted} {committed} {resent}");
}

const NAMES: [&str; 16] =
    ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12", "c13", "c14", "c15"];
