use super::*;

#[tokio::test]
async fn a_wait_beats_and_a_loop_that_stands_still_does_not() {
    let pulse = Pulse::new();
    let begun = pulse.last();
    pulse.during(tokio::time::sleep(BEAT * 3)).await;
    let waited = pulse.last();
    assert!(waited > begun + BEAT, "{waited:?}");
    tokio::time::sleep(BEAT).await;
    assert_eq!(pulse.last(), waited);
    assert!(pulse.age() >= BEAT, "{:?}", pulse.age());
    pulse.beat();
    assert!(pulse.age() < BEAT);
}
