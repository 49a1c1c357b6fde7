use super::*;

#[test]
fn a_cut_with_rows_ends_at_the_last_commit_and_one_without_at_the_last_clean_position() {
    let mut positions = Positions::at(Lsn(100));
    positions.committed(Lsn(150), 7);
    positions.keepalive(Lsn(400), false);
    assert_eq!(positions.seal(true), (Lsn(150), Some(7)));
    assert!(positions.is_behind() && !positions.is_idle_behind());
    positions.published = Lsn(150);
    assert!(positions.is_idle_behind());
    assert_eq!(positions.seal(false), (Lsn(400), None));
}

/// T55: a keepalive may carry an old position, and inside a transaction none that may be confirmed.
#[test]
fn t55_keepalives_move_nothing_back_and_nothing_inside_a_transaction() {
    let mut positions = Positions::at(Lsn(100));
    positions.keepalive(Lsn(50), false);
    assert_eq!((positions.received, positions.clean), (Lsn(100), Lsn(100)));
    positions.keepalive(Lsn(300), true);
    assert_eq!((positions.received, positions.clean), (Lsn(300), Lsn(100)));
}

#[test]
fn a_transaction_that_is_in_the_lake_already_moves_nothing() {
    let mut positions = Positions::at(Lsn(100));
    positions.committed(Lsn(90), 1);
    assert_eq!(positions.seal(false), (Lsn(100), None));
}
