use super::*;
use crate::error::Kind;

fn message(xid: u32, body: &[u8]) -> Streamed<'_> {
    Streamed { xid: Xid(xid), tag: b'I', body }
}

fn kept(messages: &[(u32, &[u8])]) -> Spool {
    let mut spool = Spool::default();
    messages.iter().for_each(|(xid, body)| spool.push(&message(*xid, body)));
    spool
}

#[test]
fn a_message_is_found_as_it_was_kept() {
    let buffer = kept(&[(7, b"first"), (8, b"")]).memory;
    let Some(Found::Kept(Kept { xid, message })) = find(&buffer, 0) else { panic!() };
    assert_eq!((xid, &buffer[message.clone()]), (Xid(7), b"Ifirst".as_slice()));
    let Some(Found::Kept(Kept { xid, message })) = find(&buffer, message.end) else { panic!() };
    assert_eq!((xid, &buffer[message.clone()], message.end), (Xid(8), b"I".as_slice(), buffer.len()));
    for length in 0..HEAD_BYTES + 6 {
        let Some(Found::Part { missing }) = find(&buffer[..length], 0) else { panic!("{length}") };
        assert!(missing > 0 && missing + length <= HEAD_BYTES + 6);
    }
}

#[test]
fn no_changed_byte_is_taken_for_what_was_kept() {
    let buffer = kept(&[(7, b"some row")]).memory;
    for at in 0..buffer.len() {
        for bit in 0..8 {
            let mut changed = buffer.clone();
            changed[at] ^= 1 << bit;
            assert!(!matches!(find(&changed, 0), Some(Found::Kept(_))), "byte {at}");
        }
    }
}

#[tokio::test]
async fn a_file_has_no_name_and_gives_its_room_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let room = Room::new(folder.path().join("new"), ByteSize::kibibytes(1));
    room.probe().expect("it is made");
    let mut spool = kept(&[(7, b"a"), (7, b"b")]);
    let expected = spool.memory.clone();
    spool.spill(&room).await.expect("room");
    spool.push(&message(8, b"c"));
    spool.spill(&room).await.expect("room");
    assert_eq!(fs::read_dir(room.directory()).expect("a folder").count(), 0);
    assert_eq!((spool.memory_bytes(), room.taken()), (0, 14 * 3));

    let file = spool.file.as_ref().expect("a file");
    let mut read = Vec::new();
    assert_eq!(file.read(0, 28, &mut read).expect("read"), 28);
    assert_eq!(read, expected);
    assert_eq!(file.read(28, 1_000, &mut read).expect("read"), 14);
    drop(spool);
    assert_eq!(room.taken(), 0);
}

#[tokio::test]
async fn no_room_is_transient_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let room = Room::new(folder.path().to_owned(), ByteSize::kibibytes(1));
    let mut spool = kept(&[(7, &[0; 600])]);
    spool.spill(&room).await.expect("room");
    let mut other = kept(&[(8, &[0; 600])]);
    let error = other.spill(&room).await.expect_err("two are too many");
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().ends_with("more than `source.spool_size` of 1KiB"), "{error}");
    drop(spool);
    kept(&[(9, &[0; 600])]).spill(&room).await.expect("room again");

    let nowhere = Room::new(folder.path().join("absent"), ByteSize::kibibytes(1));
    let error = kept(&[(7, b"a")]).spill(&nowhere).await.expect_err("no folder");
    assert_eq!(error.kind(), Kind::Transient);
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    assert_eq!(Room::new(file, ByteSize::kibibytes(1)).probe().expect_err("a file").kind(), Kind::Config);
}
