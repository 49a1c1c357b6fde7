use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn sixty_eighty_and_a_hundred_percent() {
    for (retained, level) in [
        (0, Level::Calm),
        (59 * MIB, Level::Calm),
        (60 * MIB, Level::High),
        (80 * MIB - 1, Level::High),
        (80 * MIB, Level::Tight),
        (100 * MIB - 1, Level::Tight),
        (100 * MIB, Level::Over),
        (u64::MAX, Level::Over),
    ] {
        let mut budget = Budget::new(100 * MIB);
        assert_eq!(budget.look(0), Level::Calm);
        assert_eq!(budget.look(retained), level, "{retained}");
    }
}

#[test]
fn who_begins_above_the_budget_may_catch_up_but_not_grow_on() {
    let mut budget = Budget::new(100 * MIB);
    assert_eq!(budget.look(300 * MIB), Level::Tight);
    assert_eq!(budget.look(309 * MIB), Level::Tight);
    assert_eq!(budget.look(310 * MIB), Level::Over);
    assert_eq!(budget.look(200 * MIB), Level::Tight, "it works the backlog off");
    assert_eq!(budget.look(99 * MIB), Level::Tight);
    assert_eq!(budget.look(100 * MIB), Level::Over, "once below it, the budget counts");
    // Tiny, and huge.
    assert_eq!(Budget::new(1).look(5), Level::Tight);
    assert_eq!(Budget::new(u64::MAX).look(u64::MAX), Level::Over);
}

#[test]
fn the_policy_is_followed_at_a_hundred_percent_only() {
    for level in [Level::Calm, Level::High, Level::Tight] {
        for policy in [OnWalBudget::Halt, OnWalBudget::DropSlot] {
            assert_eq!(action(level, policy, 100, 0), Action::None);
        }
    }
    assert_eq!(action(Level::Over, OnWalBudget::Halt, 100, 500), Action::Halt);
    assert_eq!(action(Level::Over, OnWalBudget::DropSlot, 100, 99), Action::DropSlot);
    assert_eq!(action(Level::Over, OnWalBudget::DropSlot, 100, 100), Action::KeptForNothing);
}
